//! `stage build`: a stage4 definition becomes a build state, and the state a signed artifact.

use serde::Serialize;

use super::artifact::{Artifact, ExportOptions};
use super::definition::{Built, network_record, script_digests, subject_of};
use super::engine::Engine;
use super::error::{Error, Result};
use super::key::Inputs;
use super::script::REMOVE;
use super::work::{StepsDone, Subject};
use crate::config::hooks::{Hooks, Phase};
use crate::config::{ArtifactFormat, ConfigDir, PathPattern, Stage4Definition};
use crate::portage::emerge::request::{Existing, Goal};
use crate::stage3::sign::Gpg;
use crate::store::{NewState, Purpose, Session, State};

/// What to build and how to export it.
#[derive(Debug, Clone)]
pub struct StageOptions {
    /// The stage4 definition.
    pub name: String,
    /// Form and compression; the definition's if `None`.
    pub format: Option<ArtifactFormat>,
    /// The `gpg` to sign with; `None` leaves the artifact unsigned.
    pub gpg: Option<Gpg>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct StageBuilt {
    /// The stage4 definition.
    pub name: String,
    /// Its state.
    pub state: String,
    /// Whether the state was there already.
    pub state_reused: bool,
    /// The files.
    pub artifact: Artifact,
}

impl Engine<'_> {
    /// Builds the stage3 definition it names, the stage4 on that, and exports it.
    pub fn stage_build(&self, config: &ConfigDir, options: &StageOptions) -> Result<StageBuilt> {
        let definition = config.stage4(&options.name)?;
        let _shared = self.share_store()?;
        let profile = self.profile_or_default(Some(&definition.profile.value))?;
        let env = config.env(&self.settings.arch)?;
        let gpg = options.gpg.clone().map(|gpg| Gpg { key: env.sign_key.map(|key| key.value).or(gpg.key), ..gpg });
        let signer = match &gpg {
            // An hour of building must not end with "no secret key".
            Some(gpg) => Some((gpg, gpg.secret_key_available().map_err(Error::Sign)?)),
            None => None,
        };
        let _profile = self.lock(&format!("profile/{profile}"))?;
        let _stage = self.lock(&format!("stage4/{}", options.name))?;
        let base = self.definition(config, &profile, &definition.stage3.value);
        let built = base.and_then(|base| self.stage4(config, &definition, &profile, &base.state));
        let built = built.map_err(|error| self.with_proposal(config, &options.name, &profile, error))?;
        self.store.ref_set(&format!("stage4/{}", options.name), &built.state.id)?;
        let export = ExportOptions {
            format: options.format.or(definition.format.as_ref().map(|format| format.value)).unwrap_or(ArtifactFormat::TarXz),
            oci: definition.oci.clone().unwrap_or_default(),
            keep: definition.keep.iter().map(|pattern| pattern.value.to_string()).collect(),
            signer,
            arch: env.arch,
        };
        let target = self.target(&options.name, "stage4", &built.state, &export);
        let artifact = self.export(&options.name, &target, &built.state, &export)?;
        Ok(StageBuilt { name: options.name.clone(), state: built.state.id.to_string(), state_reused: built.reused, artifact })
    }

    fn stage4(&self, config: &ConfigDir, definition: &Stage4Definition, profile: &str, base: &State) -> Result<Built> {
        let name = &definition.name;
        let packages: Vec<String> = definition.packages.iter().map(|package| package.value.to_string()).collect();
        let removes: Vec<PathPattern> = definition.removes.iter().map(|pattern| pattern.value.clone()).collect();
        let hooks = Hooks::with_config(config.root())?;
        let trees = self.trees()?;
        let inputs = Inputs::new("stage4")
            .with("parent", &base.key)
            .with("definition", name.as_str())
            .with_list("packages", &packages)
            .with_list("scripts", script_digests(&definition.scripts))
            .with_list("removes", removes.iter().map(ToString::to_string))
            .with("remover", REMOVE)
            .with("hooks", hooks.digest_of(&[Phase::Stage, Phase::Finish]))
            .with_list("trees", trees.iter().map(|tree| format!("{}={}", tree.name, tree.digest)))
            .with("network", network_record(&definition.network).to_string());
        let key = inputs.key();
        if let Some(state) = self.store.state_by_key(&key)? {
            return Ok(Built { state, reused: true });
        }
        let (mut session, resumed) =
            self.open_session(base, Purpose::Stage, &key, &subject_of(config, &format!("stage4/{name}")))?;
        self.step(&format!("{} stage4 {name}", if resumed { "resuming" } else { "building" }));
        let filled = self.fill_stage4(&mut session, base, definition, &packages, &removes, &hooks, profile);
        let newest_input = trees.iter().map(|tree| tree.newest).chain([base.newest_input]).max().unwrap_or(0);
        let state = self.settle(filled, session, |session, ()| {
            let origin = serde_json::json!({
                "kind": "stage4 definition",
                "profile": profile,
                "definition": name,
                "inputs": inputs,
                "pool": base.origin["pool"],
                "portage_profile": base.origin["portage_profile"],
                "base": base.origin,
                "isolation": crate::host::RUNG,
                "network": network_record(&definition.network),
            });
            Ok(session.commit(NewState { key: key.clone(), origin, newest_input, parent: Some(base.id.clone()) })?)
        })?;
        Ok(Built { state, reused: false })
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one recipe, each used once")]
    fn fill_stage4(
        &self,
        session: &mut Session,
        base: &State,
        definition: &Stage4Definition,
        packages: &[String],
        removes: &[PathPattern],
        hooks: &Hooks,
        profile: &str,
    ) -> Result<()> {
        let subject = Subject {
            log_name: format!("stage-{}", definition.name),
            profile: profile.to_owned(),
            definition: definition.name.clone(),
        };
        let mut steps = StepsDone::of(session)?;
        let mut work = self.work(session, base, &subject, hooks, None, Vec::new())?;
        let resumed = steps.any();
        let network = definition.network.everything.is_some();
        steps.once("hooks:stage", || self.hooks(&work, hooks, Phase::Stage))?;
        let portage_profile = base.origin["portage_profile"].as_str().unwrap_or_default().to_owned();
        let pool = self.choose_pool(&mut work, &portage_profile)?;
        if !packages.is_empty() {
            let goal = Goal::Packages { atoms: packages.to_vec(), existing: Existing::Update, oneshot: false };
            self.emerge_goal(&work, &mut steps, "packages", goal, resumed, network)?;
        }
        for script in &definition.scripts {
            steps.once(&format!("script:{}", script.name.value), || self.script(&work, script, network))?;
        }
        steps.once("removes", || self.remove(&work, removes))?;
        steps.once("hooks:finish", || self.hooks(&work, hooks, Phase::Finish))?;
        self.publish(&work, &pool)?;
        self.relink(&work)?;
        self.tidy(&work)
    }
}
