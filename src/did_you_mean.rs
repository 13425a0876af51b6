//! Which existing name was probably meant by one that does not exist.

/// The candidate that differs least, if it differs little enough to be a typing error. Two swapped neighbours count as one difference. A
/// candidate also matches without the folders in front of it.
pub(crate) fn nearest<'a, N: AsRef<str> + ?Sized + 'a>(name: &str, candidates: impl IntoIterator<Item = &'a N>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(AsRef::as_ref)
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit || candidate.ends_with(&format!("/{name}")))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The hint "did you mean …?".
pub(crate) fn question(name: &str) -> String {
    format!("did you mean `{name}`?")
}

/// As [`question`] for several names; `None` if there are none.
pub(crate) fn question_of<N: AsRef<str>>(names: &[N]) -> Option<String> {
    let names: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    (!names.is_empty()).then(|| format!("did you mean {}?", names.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_spelling_that_was_meant() {
        let known = ["generic-amd64", "x86-64-v3", "gentoomuch/builder"];
        for (name, expected) in [
            ("generic-amd46", Some("generic-amd64")),
            ("x86-64-v4", Some("x86-64-v3")),
            ("builder", Some("gentoomuch/builder")),
            ("nothing", None),
        ] {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest("ba", ["ab"]), Some("ab"), "a swap is one step");
    }

    #[test]
    fn asks_for_one_or_several() {
        assert_eq!(question("a"), "did you mean `a`?");
        assert_eq!(question_of(&["a", "b"]).as_deref(), Some("did you mean `a` or `b`?"));
        assert_eq!(question_of::<&str>(&[]), None);
    }
}
