//! Every scene of `make demo`, held to.

use e2e::demo::{Demo, SCENES};

#[test]
fn all_scenes_end_as_they_must() {
    let mut demo = Demo::start();
    for scene in &SCENES {
        let outcome = demo.play(scene);
        assert_eq!(outcome.right, Ok(()), "{}: {} {}", scene.asked, outcome.verdict, outcome.got);
    }
}

#[test]
fn a_clean_request_after_a_blocked_one_is_clean() {
    let mut demo = Demo::start();
    for _ in 0..3 {
        for scene in [&SCENES[2], &SCENES[0], &SCENES[6], &SCENES[0]] {
            let outcome = demo.play(scene);
            assert_eq!(outcome.right, Ok(()), "{}: {}", scene.asked, outcome.got);
        }
    }
}
