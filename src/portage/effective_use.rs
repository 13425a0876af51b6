//! Whether a USE flag is on, and who decides: all words that Portage stacks for a package, from the weakest layer to the strongest.
//!
//! ```text
//! mask         use.mask, package.use.mask                      off, whatever is below
//! force        use.force, package.use.force                    on
//! package      package.env, then package.use, by specificity   ┐
//! make.conf    USE, package.use of */*, USE_EXPAND variables   │ the last word counts;
//! profile      make.defaults and package.use, node by node     │ -* clears what is below,
//! ebuild       IUSE="+flag"                                    │ VAR="x" replaces all of VAR
//! features     FEATURES="test"                                 │
//! repository   profiles/make.defaults, profiles/package.use    ┘
//! ```
//!
//! This is `USE_ORDER` of `make.globals` and what `config.setcpv` and `config.regenerate` make of it
//! (`portage/package/ebuild/config.py`, 3.0.83).

use std::collections::{BTreeMap, BTreeSet};

use super::use_flags::Switch;

/// The layer of a word, the weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layer {
    /// `profiles/make.defaults` and `profiles/package.use` of the repository.
    Repository,
    /// `FEATURES="test"`.
    Features,
    /// `IUSE` of the ebuild.
    Ebuild,
    /// The Portage profile's `make.defaults` and `package.use`.
    Profile,
    /// `make.conf`, and `package.use` for `*/*`.
    MakeConf,
    /// `package.env` and `package.use`.
    Package,
    /// `use.force` and its relatives.
    Force,
    /// `use.mask` and its relatives.
    Mask,
}

/// The effect of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Switches a flag on or off, or clears some.
    Switch(Switch),
    /// A `USE_EXPAND` variable outside of profiles: these flags with the prefix are on, all others with it are off.
    Replace {
        /// `video_cards_`
        prefix: String,
        /// Without the prefix.
        values: BTreeSet<String>,
    },
    /// No effect: a later assignment of the same variable replaced it.
    Replaced(Switch),
}

impl Action {
    /// The effect on `flag`, for a package with the flags `iuse`; `None` if there is none.
    fn effect(&self, flag: &str, iuse: &BTreeSet<String>) -> Option<bool> {
        match self {
            Self::Switch(Switch::On(name)) => match name.strip_suffix('*').filter(|prefix| prefix.ends_with('_')) {
                Some(prefix) => (flag.starts_with(prefix) && iuse.contains(flag)).then_some(true),
                None => (name == flag).then_some(true),
            },
            Self::Switch(Switch::Off(name)) => (name == flag).then_some(false),
            Self::Switch(Switch::Clear(prefix)) => {
                let clears = prefix.is_empty() || (prefix.ends_with('_') && flag.starts_with(prefix.as_str()));
                clears.then_some(false)
            }
            Self::Replace { prefix, values } => flag.strip_prefix(prefix.as_str()).map(|value| values.contains(value)),
            Self::Replaced(switch) => {
                (!matches!(switch, Switch::Clear(_)) && switch.name() == flag).then_some(matches!(switch, Switch::On(_)))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word<O> {
    pub layer: Layer,
    pub action: Action,
    /// Where it was written.
    pub origin: O,
}

/// The fate of a word about one flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It decides.
    Decides,
    /// It agrees with the word that decides.
    Agrees,
    /// It is overridden.
    Overridden,
    /// It takes back a word of the same layer about masking or forcing.
    TakesBack,
}

/// Whether a flag is on, and the words about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub enabled: bool,
    /// Every word about it by number, with its fate.
    pub said: Vec<(usize, Outcome)>,
}

impl Verdict {
    /// The number of the word that decides; `None` if there is none, and the flag is off.
    pub(crate) fn decided_by(&self) -> Option<usize> {
        self.said.iter().find(|(_, outcome)| *outcome == Outcome::Decides).map(|(index, _)| *index)
    }
}

/// Whether `flag` is on by `words`, in Portage's order, for a package with the flags `iuse`.
pub(crate) fn verdict<O>(words: &[Word<O>], flag: &str, iuse: &BTreeSet<String>) -> Verdict {
    let effects: Vec<(usize, Layer, bool, bool)> = words
        .iter()
        .enumerate()
        .filter_map(|(index, word)| {
            let replaced = matches!(word.action, Action::Replaced(_));
            word.action.effect(flag, iuse).map(|on| (index, word.layer, on, replaced))
        })
        .collect();
    let last = |layer: Option<Layer>| {
        let of = |(_, own, _, replaced): &&(usize, Layer, bool, bool)| {
            !replaced && layer.map_or(*own < Layer::Force, |layer| layer == *own)
        };
        effects.iter().rev().find(of).map(|(index, _, on, _)| (*index, *on))
    };
    let in_force = |layer| last(Some(layer)).filter(|(_, on)| *on).map(|(index, _)| index);
    let (enabled, decides) = match (in_force(Layer::Mask), in_force(Layer::Force), last(None)) {
        (Some(mask), ..) => (false, Some(mask)),
        (None, Some(force), _) => (true, Some(force)),
        (None, None, Some((word, on))) => (on, Some(word)),
        (None, None, None) => (false, None),
    };
    let outcome = |(index, layer, on, replaced): (usize, Layer, bool, bool)| {
        let outcome = match layer {
            _ if Some(index) == decides => Outcome::Decides,
            _ if replaced => Outcome::Overridden,
            Layer::Mask | Layer::Force if !on => Outcome::TakesBack,
            Layer::Mask | Layer::Force if in_force(layer).is_none() => Outcome::Overridden,
            Layer::Mask if !enabled => Outcome::Agrees,
            _ if on == enabled => Outcome::Agrees,
            _ => Outcome::Overridden,
        };
        (index, outcome)
    };
    Verdict { enabled, said: effects.iter().copied().map(outcome).collect() }
}

/// All flags of `iuse` with their decisions.
pub(crate) fn verdicts<O>(words: &[Word<O>], iuse: &BTreeSet<String>) -> BTreeMap<String, Verdict> {
    iuse.iter().map(|flag| (flag.clone(), verdict(words, flag, iuse))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(layer: Layer, text: &str) -> Word<String> {
        let action = match text.split_once('=') {
            Some((variable, values)) => Action::Replace {
                prefix: format!("{}_", variable.to_lowercase()),
                values: values.split(',').map(str::to_owned).collect(),
            },
            None => Action::Switch(Switch::parse(text)),
        };
        Word { layer, action, origin: text.to_owned() }
    }

    #[test]
    fn the_last_word_counts_and_masks_beat_all() {
        use Layer::{Ebuild, Force, MakeConf, Mask, Package, Profile};
        let iuse = ["x", "video_cards_amdgpu", "video_cards_intel"].map(str::to_owned).into();
        for (flag, words, enabled, decided) in [
            ("x", vec![], false, None),
            ("x", vec![(Ebuild, "x")], true, Some("x")),
            ("x", vec![(Ebuild, "x"), (Profile, "-x"), (MakeConf, "x")], true, Some("x")),
            ("x", vec![(Ebuild, "x"), (MakeConf, "-*")], false, Some("-*")),
            ("x", vec![(Profile, "x"), (MakeConf, "-*"), (Package, "x")], true, Some("x")),
            ("x", vec![(MakeConf, "x"), (Mask, "x")], false, Some("x")),
            ("x", vec![(MakeConf, "x"), (Mask, "x"), (Mask, "-x")], true, Some("x")),
            ("x", vec![(MakeConf, "-x"), (Force, "x")], true, Some("x")),
            ("x", vec![(Force, "x"), (Mask, "x")], false, Some("x")),
            ("x", vec![(Force, "x"), (Force, "-*")], false, None),
            (
                "video_cards_amdgpu",
                vec![(Profile, "video_cards_amdgpu"), (MakeConf, "VIDEO_CARDS=intel")],
                false,
                Some("VIDEO_CARDS=intel"),
            ),
            (
                "video_cards_intel",
                vec![(MakeConf, "VIDEO_CARDS=intel"), (Package, "-video_cards_*")],
                false,
                Some("-video_cards_*"),
            ),
            ("video_cards_intel", vec![(MakeConf, "video_cards_*")], true, Some("video_cards_*")),
            ("video_cards_other", vec![(MakeConf, "video_cards_*")], false, None),
            ("x", vec![(MakeConf, "VIDEO_CARDS=intel"), (MakeConf, "xy"), (MakeConf, "-x_*")], false, None),
        ] {
            let words: Vec<Word<String>> = words.into_iter().map(|(layer, text)| word(layer, text)).collect();
            let verdict = verdict(&words, flag, &iuse);
            assert_eq!(verdict.enabled, enabled, "{flag} {words:?}");
            assert_eq!(verdict.decided_by().map(|index| words[index].origin.as_str()), decided, "{flag} {words:?}");
        }
    }

    #[test]
    fn every_word_has_an_outcome() {
        use Outcome::{Agrees, Decides, Overridden, TakesBack};
        let words: Vec<Word<String>> = [
            word(Layer::Ebuild, "x"),
            word(Layer::Profile, "-x"),
            Word { layer: Layer::MakeConf, action: Action::Replaced(Switch::parse("x")), origin: String::new() },
            word(Layer::MakeConf, "x"),
            word(Layer::Package, "y"),
            word(Layer::Package, "x"),
            word(Layer::Force, "x"),
            word(Layer::Force, "-x"),
            word(Layer::Mask, "y"),
        ]
        .into();
        let verdict = verdict(&words, "x", &BTreeSet::new());
        let said = [(0, Agrees), (1, Overridden), (2, Overridden), (3, Agrees), (5, Decides), (6, Overridden), (7, TakesBack)];
        assert_eq!((verdict.enabled, verdict.said), (true, said.to_vec()));
    }
}
