use serde_json::json;

use super::*;

/// As a file has it.
fn read(json: Value) -> Recorded {
    serde_json::from_value(json).unwrap()
}

fn definition() -> Value {
    json!({
        "kind": "stage3 definition", "profile": "demo", "definition": "plain", "portage_profile": "gentoo:default", "isolation": "all",
        "stage3": { "kind": "stage3", "name": "stage3.tar.xz", "sha512": "13eb", "signer": null, "allow_unsigned": "by hand" },
        "trees": [{ "name": "gentoo", "digest": "9136" }],
        "portage_files": ["make.conf/50"],
        "emerge_opts": { "jobs": 3 },
        "downloads": { "mirrors": ["http://a"], "named_mirrors": {}, "hosts": {}, "stage3_hosts": {}, "protocols": [] },
        "patches": [{ "name": "a", "category": "b", "directory": "c", "file_name": "a-d.patch", "path": "d.patch", "sha256": "1" }],
        "patched": [{ "package": "b/c-1", "patches": ["d.patch"], "result": "not-called", "eapi": "5" }],
        "pool": { "chost": "x", "portage_profile": "gentoo:default", "toolchain": "gcc-14", "flags": {}, "cpu_flags": {}, "own": "plain" },
        "package_keys": { "b/c-1::gentoo": "0123456789abcdef0123456789abcdef" },
    })
}

#[test]
fn what_is_written_has_its_kind_and_its_version() {
    let kept = Kept {
        name: "mine".to_owned(),
        profile: "demo".to_owned(),
        command: vec!["true".to_owned()],
        parent: Some(read(json!({ "kind": "stage3", "name": "stage3.tar.xz" }))),
        isolation: "all".to_owned(),
        network: Some(Network::Word("none".to_owned())),
        ..Kept::default()
    };
    let written = Recorded::from(Origin::Kept(kept.clone()));
    let text = r#"{"command":["true"],"isolation":"all","kind":"kept session","name":"mine","network":"none","parent":{"kind":"stage3","name":"stage3.tar.xz"},"profile":"demo","version":1}"#;
    assert_eq!(written.to_string(), text, "what was written before stays as it is");
    assert_eq!(*read(serde_json::from_str(text).unwrap()), Origin::Kept(kept));
    assert_eq!(Recorded::from(json!({ "kind": "stage3" })).version(), 1);
    assert_eq!(read(json!({ "kind": "stage3" })).version(), 0, "nobody wrote it before");
    assert_eq!(Recorded::from(Value::Null).json(), &Value::Null);
}

#[test]
fn a_state_has_the_configuration_of_what_it_stands_on() {
    let stage4 =
        json!({ "kind": "stage4 definition", "profile": "demo", "definition": "web", "kernel": null, "base": definition() });
    let kept = json!({ "kind": "kept session", "name": "one", "parent": stage4 });
    let twice = read(json!({ "kind": "kept session", "name": "two", "parent": kept }));
    for origin in [&read(definition()), &read(stage4), &read(kept), &twice] {
        assert_eq!(origin.patches().iter().map(|patch| patch.file_name.as_str()).collect::<Vec<_>>(), ["a-d.patch"], "{origin}");
        assert_eq!(origin.portage_files(), Some(&[PathBuf::from("make.conf/50")][..]), "{origin}");
        assert_eq!(origin.downloads().unwrap().mirrors, ["http://a"], "{origin}");
        assert_eq!(origin.emerge_opts().unwrap().jobs, Some(3), "{origin}");
        assert_eq!(origin.stage3().unwrap().allow_unsigned.as_deref(), Some("by hand"), "{origin}");
        assert_eq!(origin.pools().len(), 1, "{origin}");
    }
    assert_eq!(twice.made_from().definition(), Some("web"));
    assert_eq!((twice.pool(), twice.patched(), twice.trees()), (None, None, None), "these are of each state alone");
    // What it says itself comes first; an imported stage3 says nothing.
    let own = read(json!({ "kind": "stage4 definition", "patches": [], "base": definition() }));
    assert!(own.patches().is_empty() && own.portage_files().is_some());
    let stage3 = read(json!({ "kind": "stage3", "name": "stage3.tar.xz" }));
    assert!(stage3.patches().is_empty() && stage3.below().is_none() && stage3.downloads().is_none());
}

#[test]
fn a_kernel_takes_nothing_from_its_base() {
    let mut before = definition();
    before["later"] = json!(["field"]);
    let kernel = KernelRecord { name: "tiny".to_owned(), state: "0".repeat(32), ..KernelRecord::default() };
    let with_kernel = Recorded::from(Origin::on_kernel(&read(before.clone()), kernel));
    let mut written = with_kernel.json().clone();
    let fields = written.as_object_mut().unwrap();
    assert_eq!(fields.remove("kernel").unwrap()["name"], "tiny");
    assert_eq!((fields.remove("kind").unwrap(), fields.remove("version").unwrap()), (json!("base with kernel"), json!(1)));
    before.as_object_mut().unwrap().remove("kind");
    assert_eq!(written, before);
    assert_eq!(with_kernel.pool().unwrap().own.as_deref(), Some("plain"));
    assert_eq!(with_kernel.stage3().unwrap().name, "stage3.tar.xz");
}

#[test]
fn what_a_newer_version_wrote_is_kept_and_does_no_harm() {
    let kind = json!({ "kind": "cross build", "name": "arm", "profile": "demo", "on": definition(), "version": 1 });
    let mut version = definition();
    version["version"] = json!(2);
    for (json, name, pools) in
        [(kind, Some("arm"), 1), (version, None, 1), (json!({ "made": "by hand" }), None, 0), (json!(null), None, 0)]
    {
        let origin = read(json.clone());
        assert_eq!(*origin, Origin::Unknown(json.clone()));
        assert_eq!((origin.name(), origin.pools().len()), (name, pools), "{origin}");
        assert_eq!((origin.inputs(), origin.pool(), origin.below(), origin.patches()), (None, None, None, &[][..]), "{origin}");
        assert_eq!(serde_json::to_value(&origin).unwrap(), json);
    }
}

#[test]
fn a_field_that_cannot_be_read_takes_nothing_from_the_others() {
    let mut json = definition();
    for (field, other) in [
        ("network", json!({ "packages": [] })),
        ("patched", json!([{ "package": "b/c-1", "patches": [], "result": "half" }])),
        ("emerge_opts", json!("--jobs=3")),
        ("profile", json!(7)),
    ] {
        json[field] = other;
    }
    let origin = read(json);
    assert_eq!((origin.patched(), origin.emerge_opts(), origin.profile()), (None, None, None));
    assert_eq!(origin.portage_profile(), Some("gentoo:default"));
    assert_eq!(origin.trees().unwrap()[0].digest, "9136");
    assert_eq!(origin.package_keys().len(), 1);
}
