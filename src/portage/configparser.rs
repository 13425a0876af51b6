//! Files that Portage reads with Python's `configparser`: `binrepos.conf`, a mirror's `layout.conf`.
//!
//! `=` or `:`, whichever comes first, stands between name and value. A line that is indented more than the one that a setting began on
//! belongs to its value, whatever comments and empty lines are between (`configparser.py`, `_read`).

/// A name with its value.
pub(crate) struct Setting {
    /// The line that it begins on, counted from 1.
    pub(crate) line: u32,
    /// Of which section, by its number from 0; none before the first.
    pub(crate) section: Option<usize>,
    /// The name, in lower case.
    pub(crate) key: String,
    /// The value; its lines joined by line breaks.
    pub(crate) value: String,
}

/// Everything that is set, in order.
pub(crate) struct Parsed {
    /// Names of sections, as often as they come.
    pub(crate) sections: Vec<String>,
    pub(crate) settings: Vec<Setting>,
}

/// What Python's `str.strip` takes away.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Lines as Python has them in a text file: a lone carriage return ends one, too.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

pub(crate) fn parse(text: &str) -> Parsed {
    let mut found = Parsed { sections: Vec::new(), settings: Vec::new() };
    // Of the line that the setting, or the section, began on.
    let mut indent = 0;
    // Whether the last line of that kind was a setting.
    let mut open = false;
    for (line, whole) in (1..).zip(lines(text)) {
        let said = whole.trim_matches(is_space);
        if said.is_empty() || said.starts_with(['#', ';']) {
            continue;
        }
        let before = whole.chars().take_while(|c| is_space(*c)).count();
        if open && before > indent {
            if let Some(last) = found.settings.last_mut() {
                last.value.push('\n');
                last.value.push_str(said);
            }
            continue;
        }
        indent = before;
        let section = said.strip_prefix('[').and_then(|rest| Some(&rest[..rest.rfind(']')?])).filter(|name| !name.is_empty());
        if let Some(section) = section {
            found.sections.push(section.to_owned());
            open = false;
        } else if let Some((key, value)) = said.split_once(['=', ':']) {
            found.settings.push(Setting {
                line,
                section: found.sections.len().checked_sub(1),
                key: key.trim_matches(is_space).to_lowercase(),
                value: value.trim_matches(is_space).to_owned(),
            });
            open = true;
        }
    }
    found
}
