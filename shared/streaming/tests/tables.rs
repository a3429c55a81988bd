//! A worker that looks things up, on a real broker: orders are worth their amount times the product's price as of then,
//! whoever reads the orders, and whenever the prices came.

mod running;
mod toy;

use std::collections::BTreeMap;
use std::time::Duration;

use running::{DEADLINE, Instance, wait_for};
use streaming::operator::{Fold, NoTable, RestoreError, StateSize, Table};
use streaming::output::FoldOutput;
use streaming::window::Windows;
use streaming::{Pipeline, SharedTable, Topology};
use testkit::{Outgoing, eventually, produce, read_committed};
use toy::{Amount, Amounts, SumFold, SumMerge, WINDOW, sum_fold};

const SLIDE: i64 = toy::SLIDE;

/// Prices by product, and by the time from which they count.
#[derive(Default)]
struct Prices(BTreeMap<Vec<u8>, BTreeMap<i64, i64>>);

impl Table for Prices {
    fn put(&mut self, key: &[u8], value: &[u8], mark: Option<i64>) -> Result<(), RestoreError> {
        let (product, time) = split(key);
        let price = i64::from_le_bytes(value.try_into().unwrap());
        let from = mark.map_or(time, |mark| time.max(mark + 1));
        self.0.entry(product).or_default().insert(from, price);
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) {
        let (product, time) = split(key);
        self.0.entry(product).or_default().remove(&time);
    }

    fn size(&self) -> StateSize {
        StateSize { keys: self.0.values().map(|versions| versions.len() as u64).sum(), bytes: 0 }
    }
}

impl Prices {
    fn as_of(&self, product: &[u8], time: i64) -> i64 {
        self.0.get(product).and_then(|versions| versions.range(..=time).next_back()).map_or(0, |(_, price)| *price)
    }
}

fn key(product: &[u8], time: i64) -> Vec<u8> {
    [product, &time.to_be_bytes()].concat()
}

fn split(key: &[u8]) -> (Vec<u8>, i64) {
    let (product, time) = key.split_last_chunk::<8>().unwrap();
    (product.to_vec(), i64::from_be_bytes(*time))
}

/// Feeds the table, and prunes it; emits nothing.
#[derive(Default)]
struct PriceFold(BTreeMap<Vec<u8>, Vec<i64>>);

impl Fold for PriceFold {
    type Source = Amounts;
    type Table = Prices;

    fn apply(&mut self, event: &Amount<'_>, out: &mut FoldOutput) {
        out.put(&key(event.key, event.time), |into| into.extend_from_slice(&event.amount.to_le_bytes()));
        self.0.entry(event.key.to_vec()).or_default().push(event.time);
    }

    fn next_end(&self, _: i64) -> Option<i64> {
        None
    }

    fn close(&mut self, _: i64, _: &Prices, _: &mut FoldOutput) {}

    fn prune(&mut self, horizon: i64, out: &mut FoldOutput) {
        for (product, times) in &mut self.0 {
            times.sort_unstable();
            while times.len() > 1 && times[1] <= horizon {
                out.remove(&key(product, times.remove(0)));
            }
        }
    }

    fn size(&self) -> StateSize {
        StateSize::default()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        into.extend(postcard::to_stdvec(&self.0).unwrap());
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        self.0 = postcard::from_bytes(bytes).map_err(|error| RestoreError(error.to_string()))?;
        Ok(())
    }
}

type Orders = BTreeMap<i64, Vec<(Vec<u8>, i64, i64)>>;

/// Orders wait for their slide to close; then they are worth something, and the toy's fold sums that.
struct OrderFold {
    waiting: Orders,
    sums: SumFold,
}

impl Fold for OrderFold {
    type Source = Amounts;
    type Table = Prices;

    fn apply(&mut self, event: &Amount<'_>, _: &mut FoldOutput) {
        let pane = Windows::new(WINDOW, SLIDE).unwrap().pane_end(event.time);
        self.waiting.entry(pane).or_default().push((event.key.to_vec(), event.time, event.amount));
    }

    fn next_end(&self, after: i64) -> Option<i64> {
        let waiting = self.waiting.keys().next().copied();
        [waiting, self.sums.next_end(after)].into_iter().flatten().min()
    }

    fn close(&mut self, end: i64, prices: &Prices, out: &mut FoldOutput) {
        for (product, time, amount) in self.waiting.remove(&end).unwrap_or_default() {
            let amount = amount * prices.as_of(&product, time);
            self.sums.apply(&Amount { time, amount, key: &product }, out);
        }
        self.sums.close(end, &NoTable, out);
    }

    fn size(&self) -> StateSize {
        self.sums.size()
    }

    fn snapshot(&self, into: &mut Vec<u8>) {
        let mut sums = Vec::new();
        self.sums.snapshot(&mut sums);
        into.extend(postcard::to_stdvec(&(&self.waiting, sums)).unwrap());
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), RestoreError> {
        let read: (Orders, Vec<u8>) = postcard::from_bytes(bytes).map_err(|error| RestoreError(error.to_string()))?;
        self.waiting = read.0;
        self.sums.restore(&read.1)
    }
}

fn topology(worker: &str, prices: &str, orders: &str) -> Topology {
    let plain = toy::topology(worker, orders, Duration::from_millis(500));
    let time = plain.pipelines[0].time;
    let table = SharedTable::new(Prices::default());
    let price_fold = || (Amounts, PriceFold::default());
    let order_fold = || (Amounts, OrderFold { waiting: Orders::new(), sums: sum_fold() });
    let pipelines = vec![
        Pipeline::looking_up(&table, prices, time, price_fold, || SumMerge).feeding(),
        Pipeline::looking_up(&table, orders, time, order_fold, || SumMerge),
    ];
    Topology { pipelines, ..plain }
}

#[test]
fn orders_are_worth_the_price_as_of_their_time_whoever_reads_them_and_after_restarts() {
    let (prices, orders) = (testkit::topic("prices", 3, &[]), testkit::topic("orders", 2, &[]));
    let worker = testkit::unique("priced");
    let products: Vec<String> = (0..6).map(|product| format!("product-{product}")).collect();
    // some change, some do not; one has no price for a while
    let price_list = |product: usize| match product % 3 {
        0 => vec![(0, 2), (1_500, 3), (4_200, 5)],
        1 => vec![(0, 10)],
        _ => vec![(2_000, 7)],
    };
    let priced = |from: i64, to: i64| {
        let mut list: Vec<(i64, String, i64)> = Vec::new();
        for (number, product) in products.iter().enumerate() {
            let wanted = price_list(number).into_iter().filter(|(time, _)| (from..to).contains(time));
            list.extend(wanted.map(|(time, price)| (time, product.clone(), price)));
        }
        list.sort();
        produce(
            &prices,
            list.iter().map(|(time, product, price)| Outgoing::new(product.as_str(), format!("{time},{price}"))),
        );
    };
    let all: Vec<(String, i64, i64)> = (0..900)
        .map(|number| (products[number % products.len()].clone(), 10 + 7 * number as i64, 1 + number as i64 % 5))
        .collect();
    let order = |range: std::ops::Range<usize>| {
        produce(
            &orders,
            all[range]
                .iter()
                .map(|(product, time, amount)| Outgoing::new(product.as_str(), format!("{time},{amount}"))),
        );
    };
    let start = |instance: &str| Instance::run(topology(&worker, &prices, &orders), toy::config(instance));
    let closed = |number: usize| (all[number - 1].1 - toy::BOUND).div_euclid(SLIDE) * SLIDE - SLIDE;

    priced(0, 1_000);
    order(0..100);
    let (first, second) = (start("first"), start("second"));
    wait_for(&worker, &orders, 100, closed(100));
    eventually("both are ready", DEADLINE, || {
        [&first, &second].iter().all(|instance| instance.readiness.check().is_ok()).then_some(())
    });
    // prices of times that the orders have not reached
    priced(1_000, 3_000);
    order(100..400);
    wait_for(&worker, &orders, 400, closed(400));
    second.stop().unwrap();
    priced(3_000, 9_000);
    order(400..600);
    wait_for(&worker, &orders, 600, closed(600));
    first.stop().unwrap();
    order(600..900);
    let third = start("third");
    wait_for(&worker, &orders, 900, closed(900));
    third.stop().unwrap();

    let worth: Vec<(String, i64, i64)> = all
        .iter()
        .enumerate()
        .map(|(number, (product, time, amount))| {
            let prices = price_list(number % products.len());
            let price = prices.iter().rev().find(|(from, _)| from <= time).map_or(0, |(_, price)| *price);
            (product.clone(), *time, amount * price)
        })
        .collect();
    let mut rows: Vec<String> = read_committed(&format!("{worker}.sums"))
        .into_iter()
        .map(|record| String::from_utf8(record.value.unwrap()).unwrap())
        .collect();
    rows.sort();
    let until = rows.iter().map(|row| row.split(',').next().unwrap().parse::<i64>().unwrap()).max().unwrap();
    assert!(until >= closed(900));
    assert_eq!(rows, toy::batch(&worth, until));
}
