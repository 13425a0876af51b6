//! Files that Portage reads with Python's `configparser`: `binrepos.conf`, a mirror's `layout.conf`.
//!
//! Name and value are separated by `=` or `:`, whichever comes first. A line that is indented more than the first line of a setting
//! continues its value, across comments and empty lines (`configparser.py`, `_read`).

/// A name with its value.
pub(crate) struct Setting {
    /// The line that it begins on, counted from 1.
    pub(crate) line: u32,
    /// Number of its section from 0; `None` before the first.
    pub(crate) section: Option<usize>,
    /// The name, in lower case.
    pub(crate) key: String,
    /// The value; its lines joined by line breaks.
    pub(crate) value: String,
}

/// Everything that is set, in order.
pub(crate) struct Parsed {
    /// Names of all sections, with duplicates.
    pub(crate) sections: Vec<String>,
    pub(crate) settings: Vec<Setting>,
}

/// What Python's `str.strip` removes.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Lines of Python's text files: a lone carriage return also ends one.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n').flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

pub(crate) fn parse(text: &str) -> Parsed {
    let mut found = Parsed { sections: Vec::new(), settings: Vec::new() };
    // Indentation of the line on which the setting or section began.
    let mut indent = 0;
    // Whether the last such line was a setting.
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
