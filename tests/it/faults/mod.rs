//! Every fault of an endpoint, in pools of every size, under load: what it costs, and how long.
//!
//! Run with `--nocapture` to see the figures.

mod cell;
mod told;

use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;

use self::cell::{Cell, Fault, Row};
use crate::support::redis::Redis;
use crate::support::site::{Site, await_proof};

/// One pool size at a time: the machine is busy enough with one.
static TURN: Mutex<()> = Mutex::new(());

/// Every fault of one of so many hosts, all at the same time, each on a service of its own.
#[expect(clippy::print_stdout, reason = "figures for whoever asks for them")]
fn all_faults_in_pools_of(hosts: usize) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let redis = Redis::start();
    let cells: Vec<Cell> = Fault::ALL
        .iter()
        .map(|&fault| Cell::prepare(&redis, hosts, fault))
        .collect();
    let site = Site::start(&redis);
    await_proof(&redis);
    let (site, redis) = (&site, &redis);
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let run = |cell: Cell| scope.spawn(move || cell.run(site, redis));
        let running: Vec<_> = cells.into_iter().map(run).collect();
        let ended = running.into_iter().map(ScopedJoinHandle::join);
        ended.map(|row| row.expect("no panic")).collect()
    });
    let table: String = rows.iter().map(Row::to_string).collect();
    println!("\n{}{table}", Row::HEADER);
    let broken: Vec<String> = rows.iter().flat_map(Row::broken).collect();
    assert_eq!(broken, [""; 0]);
}

#[test]
fn in_a_pool_of_one_a_fault_ends_when_it_ends() {
    all_faults_in_pools_of(1);
}

#[test]
fn in_a_pool_of_two_a_fault_costs_what_was_in_flight() {
    all_faults_in_pools_of(2);
}

#[test]
fn in_a_pool_of_three_a_fault_costs_what_was_in_flight() {
    all_faults_in_pools_of(3);
}

#[test]
fn in_a_pool_of_ten_a_fault_costs_what_was_in_flight() {
    all_faults_in_pools_of(10);
}
