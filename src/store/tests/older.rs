//! States that versions before have written, as their files are.

use super::*;
use crate::origin::Origin;

const FILES: [(&str, &str); 14] = [
    ("base with kernel", include_str!("older/base-with-kernel.json")),
    ("definition, binhost", include_str!("older/definition-binhost.json")),
    ("definition, oldest", include_str!("older/definition-oldest.json")),
    ("definition, patched", include_str!("older/definition-patched.json")),
    ("definition, updated", include_str!("older/definition-updated.json")),
    ("kept session", include_str!("older/kept-session.json")),
    ("kernel", include_str!("older/kernel.json")),
    ("kernel headers", include_str!("older/kernel-headers.json")),
    ("kernel sources", include_str!("older/kernel-sources.json")),
    ("stage3", include_str!("older/stage3.json")),
    ("stage3, unsigned", include_str!("older/stage3-unsigned.json")),
    ("stage4, kernel", include_str!("older/stage4-with-kernel.json")),
    ("stage4, oldest", include_str!("older/stage4-oldest.json")),
    ("stage4, patched", include_str!("older/stage4-patched.json")),
];

#[test]
fn a_store_has_them_as_its_own() {
    let fixture = Fixture::new();
    let store = &fixture.store;
    for (about, text) in FILES {
        let state: State = serde_json::from_str(text).unwrap();
        fs::write(store.state_path(&state.id), text).unwrap();
        assert!(store.state(&state.id).unwrap().has_id(&state.id).unwrap(), "{about}: nothing of it is lost");
        assert_eq!(store.state_by_key(&state.key).unwrap().as_ref(), Some(&state), "{about}");
        assert_eq!(
            (state.origin.version(), state.origin.json()),
            (0, &serde_json::from_str::<Value>(text).unwrap()["origin"]),
            "{about}"
        );
    }
    assert_eq!(store.states().unwrap().len(), FILES.len());
}

#[test]
fn all_that_they_say_of_their_origin_is_read() {
    let mut told = String::new();
    for (about, text) in FILES {
        let state: State = serde_json::from_str(text).unwrap();
        let origin = &state.origin;
        assert!(!matches!(**origin, Origin::Unknown(_)), "{about}");
        assert_eq!(serde_json::to_value(&**origin).unwrap(), *origin.json(), "{about}: written again it is the same");
        let stage3 = origin.stage3().map(|stage3| (&stage3.name, stage3.signer.is_some(), &stage3.allow_unsigned));
        told += &format!(
            "{about}: {:?}\n  name {:?} definition {:?} profile {:?} below {:?} stage3 {stage3:?}\n  {:?} in {} pools, isolation {:?}, inputs {:?}\n  \
             trees {:?} files {:?} patches {} patched {:?}\n  keys {} parts {:?} opts {:?} mirrors {:?}\n",
            origin.kind(),
            origin.name(),
            origin.definition(),
            origin.profile(),
            origin.below().and_then(|below| below.kind()),
            origin.pool().map(|pool| (&pool.toolchain, &pool.own)),
            origin.pools().len(),
            origin.isolation(),
            origin.inputs().and_then(|inputs| inputs.get("step")),
            origin.trees().map(|trees| trees.iter().map(|tree| (&tree.name, &tree.location)).collect::<Vec<_>>()),
            origin.portage_files().map(<[_]>::len),
            origin.patches().len(),
            origin.patched().map(|patched| patched.iter().map(|one| (&one.package, &one.fate)).collect::<Vec<_>>()),
            origin.package_keys().len(),
            origin.parts().map(|parts| parts.packages.len()),
            origin.emerge_opts(),
            origin.downloads().map(|downloads| &downloads.mirrors),
        );
    }
    insta::assert_snapshot!(told);
}
