//! What a registry wants to know of who asks (RFC 9110, 11.6.1; the distribution project's token specification).
//!
//! ```text
//! WWW-Authenticate: Basic realm="Registry"
//! WWW-Authenticate: Bearer realm="https://auth.example.org/token",service="registry.example.org",scope="repository:a:pull"
//! ```

/// One that we can meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        /// The token server's address.
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// The best of those that the header lines hold: a token says less than a password.
pub(super) fn best<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let all: Vec<Challenge> = lines.flat_map(challenges).collect();
    all.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. })).or(all.first()).cloned()
}

fn challenges(line: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = line.trim_start_matches([' ', ',', '\t']);
    while let Some((scheme, after)) = word(rest) {
        rest = after.trim_start();
        let mut parameters: Vec<(String, String)> = Vec::new();
        // `name=value` belongs to this one; another word begins the next one.
        while let Some((name, value, after)) = parameter(rest) {
            parameters.push((name.to_ascii_lowercase(), value));
            rest = after.trim_start_matches([' ', ',', '\t']);
        }
        let of = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
        match scheme.to_ascii_lowercase().as_str() {
            "basic" => found.push(Challenge::Basic),
            "bearer" => {
                found.extend(of("realm").map(|realm| Challenge::Bearer { realm, service: of("service"), scope: of("scope") }));
            }
            // Others, such as `Negotiate`, are for programs that can meet them.
            _ => {}
        }
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    found
}

fn word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// `name=value` or `name="value"`, and what follows.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = word(text)?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, rest) = word(rest)?;
        return Some((name, value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((name, value, &quoted[at + 1..])),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    None
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope) }
    }

    #[test]
    fn what_registries_ask() {
        let table = [
            (vec![r#"Basic realm="Registry""#], Some(Challenge::Basic)),
            (vec!["basic"], Some(Challenge::Basic)),
            (
                vec![r#"Bearer realm="https://a/token",service="s",scope="repository:a/b:pull,push""#],
                Some(bearer("https://a/token", Some("s"), Some("repository:a/b:pull,push"))),
            ),
            (
                vec![r#"Basic realm="a, b=c", Bearer Realm = "https://a\"b" , error=invalid_token"#],
                Some(bearer("https://a\"b", None, None)),
            ),
            (vec!["Negotiate", r#"Bearer realm="r""#, "Basic realm=x"], Some(bearer("r", None, None))),
            (vec!["Negotiate, Basic realm=x"], Some(Challenge::Basic)),
            (vec![r#"Bearer service="s""#], None),
            (vec![r#"Bearer realm="open"#], None),
            (vec!["", ",", "=", "\""], None),
        ];
        for (lines, expected) in table {
            assert_eq!(best(lines.iter().copied()), expected, "{lines:?}");
        }
    }
}
