//! What this machine allows: probes, and remedies for what it does not.
