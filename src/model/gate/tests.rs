//! Slots and turns in simulated time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

fn wish(caller: u64, now_us: u64) -> Wish {
    Wish {
        caller,
        queue: 1_000,
        patience_us: u64::MAX,
        now_us,
    }
}

fn waits(joined: Joined) -> Arc<Turn> {
    match joined {
        Joined::Waits(turn) => turn,
        other => panic!("{other:?}"),
    }
}

#[test]
fn slots_are_exact_and_the_next_in_line_gets_what_is_freed() {
    let gate = Gate::default();
    assert!(gate.enter(2) && gate.enter(2) && !gate.enter(2));
    let first = waits(gate.join(wish(1, 10)));
    let second = waits(gate.join(wish(2, 20)));
    assert!(!gate.enter(3), "those in line go first");
    gate.look(25);
    assert_eq!(
        (gate.running(), gate.waiting()),
        (3, 1),
        "there is one more"
    );
    assert_eq!((first.stand(), second.stand()), (Stand::Has, Stand::Waits));
    gate.release(9, Way::AtOnce, 100, 30);
    assert_eq!(second.stand(), Stand::Has);
    for caller in [9, 1, 2] {
        let way = if caller == 9 {
            Way::AtOnce
        } else {
            Way::InLine
        };
        gate.release(caller, way, 100, 40);
    }
    assert_eq!((gate.running(), gate.waiting()), (0, 0));
}

#[test]
fn who_leaves_the_line_loses_no_slot() {
    let gate = Gate::default();
    assert!(gate.enter(1));
    let gone = waits(gate.join(wish(1, 10)));
    let late = waits(gate.join(wish(1, 11)));
    let last = waits(gate.join(wish(1, 12)));
    gate.leave(&gone, 20);
    gate.release(9, Way::AtOnce, 100, 30);
    assert_eq!(late.stand(), Stand::Has);
    // It left at the very moment that it got its slot.
    gate.leave(&late, 40);
    assert_eq!(last.stand(), Stand::Has);
    gate.leave(&last, 50);
    assert_eq!((gate.running(), gate.waiting()), (0, 0));
}

#[test]
fn who_would_wait_too_long_is_told_at_once() {
    let gate = Gate::default();
    assert!(gate.enter(2) && gate.enter(2));
    gate.release(9, Way::AtOnce, 1_000_000, 0);
    assert!(gate.enter(2));
    let hurried = Wish {
        patience_us: 400_000,
        ..wish(1, 10)
    };
    assert!(matches!(gate.join(hurried), Joined::Hopeless));
    let patient = Wish {
        patience_us: 600_000,
        ..hurried
    };
    assert!(matches!(gate.join(patient), Joined::Waits(_)));
    assert_eq!(gate.waiting(), 1);
}

#[test]
fn a_full_line_takes_a_trickle_and_no_more_of_a_flood() {
    let gate = Gate::default();
    assert!(gate.enter(1));
    let short = |caller| Wish {
        queue: 2,
        ..wish(caller, 10)
    };
    let _first = waits(gate.join(short(1)));
    let second = waits(gate.join(short(1)));
    assert!(matches!(gate.join(short(1)), Joined::Full));
    let trickle = waits(gate.join(short(2)));
    assert_eq!(second.stand(), Stand::Out);
    assert_eq!((trickle.stand(), gate.waiting()), (Stand::Waits, 2));
    gate.leave(&second, 20);
    assert_eq!(gate.waiting(), 2);
}

/// What a simulated request does next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Comes(u64, usize),
    Ends(u64, usize, Way, u64),
    Looks,
}

/// Clients with so many connections each ask without end for slots that are held for about
/// `pace_us`, and come back after `gap_us`; what each got done in `span_us`.
fn simulate(
    connections: &[usize],
    slots: u32,
    pace_us: u64,
    gap_us: u64,
    span_us: u64,
) -> Vec<u64> {
    let gate = Gate::default();
    let mut done = vec![0; connections.len()];
    let mut steps = BinaryHeap::new();
    let mut waiting: Vec<(u64, usize, Arc<Turn>)> = Vec::new();
    let mut random = 1_u64;
    let mut length = || {
        random = crate::model::hash::mix(random);
        pace_us / 2 + random % pace_us
    };
    for (client, count) in connections.iter().enumerate() {
        for number in 0..*count {
            let caller = client as u64 + 1;
            steps.push(Reverse((1 + number as u64, Step::Comes(caller, client))));
        }
    }
    while let Some(Reverse((now_us, step))) = steps.pop() {
        if now_us > span_us {
            break;
        }
        let mut begin = |caller, client, way, steps: &mut BinaryHeap<_>| {
            let end = Step::Ends(caller, client, way, now_us);
            steps.push(Reverse((now_us + length(), end)));
        };
        match step {
            Step::Comes(caller, client) => {
                if gate.enter(slots) {
                    begin(caller, client, Way::AtOnce, &mut steps);
                } else {
                    match gate.join(wish(caller, now_us)) {
                        Joined::Slot => begin(caller, client, Way::InLine, &mut steps),
                        Joined::Waits(turn) => waiting.push((caller, client, turn)),
                        other => panic!("{other:?}"),
                    }
                }
            }
            Step::Ends(caller, client, way, since_us) => {
                done[client] += 1;
                gate.release(caller, way, now_us - since_us, now_us);
                steps.push(Reverse((now_us + gap_us, Step::Comes(caller, client))));
            }
            Step::Looks => gate.look(now_us),
        }
        assert!(gate.running() <= slots);
        waiting.retain(|(caller, client, turn)| {
            if turn.stand() == Stand::Has {
                begin(*caller, *client, Way::InLine, &mut steps);
                return false;
            }
            let look_us = turn.look_us.swap(u64::MAX, Ordering::Relaxed);
            if look_us != u64::MAX {
                steps.push(Reverse((look_us, Step::Looks)));
            }
            true
        });
    }
    done
}

#[test]
fn a_flood_and_a_trickle_both_get_what_max_min_fairness_gives() {
    // One connection can use one slot of four; three are left for the hundred.
    let done = simulate(&[100, 1], 4, 20_000, 300, 100_000_000);
    let all: u64 = done.iter().sum();
    let part = done[1] * 1_000 / all;
    assert!((225..=275).contains(&part), "{done:?}");
    assert!(all > 4 * 100_000_000 / 20_000 * 95 / 100, "{done:?}");
}

#[test]
fn floods_share_equally_however_many_connections_they_have() {
    let done = simulate(&[100, 10, 10], 6, 20_000, 300, 60_000_000);
    let (most, least) = (done.iter().max(), done.iter().min());
    let (most, least) = most.zip(least).expect("three clients");
    assert!(least * 100 >= most * 95, "{done:?}");
}

#[test]
fn a_lone_client_has_all_slots_and_nobody_waits_for_nothing() {
    let done = simulate(&[100], 4, 20_000, 300, 60_000_000);
    assert!(done[0] > 4 * 60_000_000 / 20_000 * 97 / 100, "{done:?}");
}

#[test]
fn threads_never_hold_more_than_there_is_and_lose_nothing() {
    const SLOTS: u32 = 3;
    let gate = Gate::default();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let gate = &gate;
            scope.spawn(move || {
                for turn in 0..2_000 {
                    let mut way = Way::AtOnce;
                    if !gate.enter(SLOTS) {
                        way = Way::InLine;
                        match gate.join(wish(thread, turn)) {
                            Joined::Slot => {}
                            Joined::Waits(turn) => {
                                let has = (0..200).any(|_| {
                                    std::thread::yield_now();
                                    turn.stand() == Stand::Has
                                });
                                if !has {
                                    gate.leave(&turn, 1);
                                    continue;
                                }
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    assert!(gate.running() <= SLOTS);
                    gate.release(thread, way, 1, turn);
                }
            });
        }
    });
    assert_eq!((gate.running(), gate.waiting()), (0, 0));
}
