//! An unchanged pipeline of 20 stage4s on 5 stage3 definitions: planned and found to be all there, as `gentoomuch pipeline` does it each time.
#![expect(clippy::unwrap_used, reason = "a program of its own, for people")]

use criterion::Criterion;

#[path = "shared/fleet.rs"]
mod fleet;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    fleet::with_fleet(|run| {
        let mut group = criterion.benchmark_group("pipeline");
        group.sample_size(20);
        group.bench_function("20 stage4s, unchanged, 225 states in the store", |b| b.iter(run));
        group.finish();
    });
    criterion.final_summary();
}
