//! Every model against a definition by brute force, against hand-made histories of each anomaly,
//! and against larger histories with and without one planted violation.
//!
//! The definitions share no code with the checkers: they try all orders or state the rule in
//! plain loops over pairs. Histories that they judge have at most ten operations.

mod append;
mod causal;
mod causal_store;
mod convergence;
mod lock;
mod script;
mod sequential;
mod session;
mod set;
mod speed;
mod staleness;
mod trial;
mod watch;

/// Each name is that of its own checker, and an empty history is never invalid.
#[test]
fn models_go_by_their_names() {
    use jepsen::checker::{MODELS, ModelOptions, by_model};
    for model in MODELS {
        let checker = by_model(model, &ModelOptions::default()).unwrap();
        // A register with cas is the same model as one without.
        let other_name = model == "cas-register" && checker.model() == "register";
        assert!(checker.model() == model || other_name, "{model}");
        assert!(!checker.check(&[]).is_invalid(), "{model}");
    }
    assert!(by_model("stack", &ModelOptions::default()).is_none());
}
