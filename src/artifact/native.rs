//! Whether a state was compiled for the builder's own processor: looks for `-march=native` and its like in everything that Portage reads
//! as `make.conf`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::cpu::native_flag;
use crate::merged_view;
use crate::portage::profile_stack::{Known, Source, evaluate};

const MAKE_CONF: &str = "etc/portage/make.conf";

/// The first flag that means "this processor". Layers top first; unreadable files are skipped.
pub(crate) fn flag_in(layers: &[PathBuf]) -> Option<String> {
    let texts: Vec<String> = match merged_view::files_of(layers, MAKE_CONF) {
        // Portage reads the files of a directory in order of name.
        Some(files) => files.into_values().collect(),
        None => merged_view::read(layers, MAKE_CONF).ok().flatten().into_iter().collect(),
    };
    let (mut known, mut values) = (Known::default(), BTreeMap::new());
    for text in &texts {
        let source = Source { repository: None, file: MAKE_CONF.into(), line: 0 };
        // Later values replace earlier ones, which may have named another processor.
        let all = evaluate(text, &source, &mut known).unwrap_or_default();
        values.extend(all.into_iter().map(|default| (default.name, default.value)));
    }
    // `COMMON_FLAGS` only matters where one of these refers to it, and references are replaced.
    let flags = values.iter().filter(|(name, _)| name.ends_with("FLAGS") && *name != "COMMON_FLAGS");
    flags.filter_map(|(_, value)| native_flag(value)).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const STAGE3: &str = "COMMON_FLAGS=\"-O2 -pipe\"\nCFLAGS=\"${COMMON_FLAGS}\"\n";

    fn write(layer: &Path, path: &str, text: &str) {
        let path = layer.join("etc/portage").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Of a stage3 whose file has moved into the directory of a built state, which lies above it and has `files`.
    fn built(stage3: &str, files: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let (top, bottom) = (dir.path().join("top"), dir.path().join("bottom"));
        write(&bottom, "make.conf", stage3);
        fs::create_dir_all(&top).unwrap();
        for (name, text) in files {
            write(&top, &format!("make.conf/{name}"), text);
        }
        flag_in(&[top, bottom])
    }

    #[test]
    fn what_the_configuration_tells_compilers_counts() {
        let native = Some("-march=native".to_owned());
        let own = "COMMON_FLAGS=\"-O3 -march=native\"\nCFLAGS=\"${COMMON_FLAGS}\"\n";
        assert_eq!(built(STAGE3, &[("10-stage3.conf", STAGE3), ("50-gentoomuch.conf", own)]), native);
        // Portage replaces references as it reads them.
        let common = "COMMON_FLAGS=\"-march=native\"\n";
        assert_eq!(built(STAGE3, &[("10-stage3.conf", STAGE3), ("50-gentoomuch.conf", common)]), None);
        let rust = "RUSTFLAGS=\"-C target-cpu=native\"\n";
        assert_eq!(built(STAGE3, &[("50-gentoomuch.conf", rust)]), Some("target-cpu=native".to_owned()));
    }

    #[test]
    fn what_the_configuration_replaces_does_not_count() {
        let of_stage3 = "CFLAGS=\"-march=native\"\n";
        assert_eq!(built(of_stage3, &[]), Some("-march=native".to_owned()));
        assert_eq!(built(of_stage3, &[("10-stage3.conf", of_stage3), ("50-gentoomuch.conf", "CFLAGS=\"-O2\"\n")]), None);
        assert_eq!(built(of_stage3, &[("50-gentoomuch.conf", "CFLAGS=\"-O2\"\n")]), None);
        assert_eq!(built("", &[]), None);
    }
}
