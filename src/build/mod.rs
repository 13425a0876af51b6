//! Orchestration: what each workflow does with the parts below it.
