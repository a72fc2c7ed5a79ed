//! Sets of addresses, written as lists of networks and asked by every request.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// The addresses of some networks. An address is looked up in the logarithm of their number;
/// copies share what they hold. IPv4 and IPv6 are told apart by the canonical form of an address:
/// `::ffff:10.0.0.1` is `10.0.0.1`, and `::/0` holds no IPv4.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// First and last addresses, ascending, apart from each other.
    v4: Arc<[(u32, u32)]>,
    v6: Arc<[(u128, u128)]>,
}

impl Networks {
    /// Whether an address is in one of the networks.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => holds(&self.v4, address.to_bits()),
            IpAddr::V6(address) => holds(&self.v6, address.to_bits()),
        }
    }

    /// Whether no address is in there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether every address of this set is in the other one, too.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        let v4 = |(first, last): &(u32, u32)| covers(&other.v4, (*first, *last));
        let v6 = |(first, last): &(u128, u128)| covers(&other.v6, (*first, *last));
        self.v4.iter().all(v4) && self.v6.iter().all(v6)
    }
}

/// A list of networks that comes to the same set, none longer than the one it was made from.
impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v4 = self.v4.iter().flat_map(|(first, last)| {
            let (first, last) = (Ipv4Addr::from_bits(*first), Ipv4Addr::from_bits(*last));
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4)
        });
        let v6 = self.v6.iter().flat_map(|(first, last)| {
            let (first, last) = (Ipv6Addr::from_bits(*first), Ipv6Addr::from_bits(*last));
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6)
        });
        for (at, network) in v4.chain(v6).enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{network}")?;
        }
        Ok(())
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match (
                network.network().to_canonical(),
                network.broadcast().to_canonical(),
            ) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    v4.push((first.to_bits(), last.to_bits()));
                }
                (first, last) => v6.push((bits(first), bits(last))),
            }
        }
        Self {
            v4: apart(v4, |last| last.checked_add(1)).into(),
            v6: apart(v6, |last| last.checked_add(1)).into(),
        }
    }
}

/// An address among all of IPv6.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Ascending ranges, where those that overlap or touch have become one.
fn apart<T: Ord + Copy>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    ranges.dedup_by(|later, earlier| {
        let joins = next(earlier.1).is_none_or(|behind| later.0 <= behind);
        if joins {
            earlier.1 = earlier.1.max(later.1);
        }
        joins
    });
    ranges
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    covers(ranges, (address, address))
}

/// Whether one of the ranges holds this one.
fn covers<T: Ord + Copy>(ranges: &[(T, T)], (first, last): (T, T)) -> bool {
    let begun = ranges.partition_point(|range| range.0 <= first);
    let nearest = begun.checked_sub(1).and_then(|at| ranges.get(at));
    nearest.is_some_and(|range| last <= range.1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(texts: &[&str]) -> Networks {
        let network = |text: &&str| text.parse::<IpNet>().expect("a network");
        texts.iter().map(network).collect()
    }

    #[test]
    fn an_address_is_in_the_networks_that_hold_it() {
        let nets = set(&[
            "10.0.0.0/8",
            "192.0.2.7/32",
            "10.1.0.0/16",
            "11.0.0.0/8",
            "255.255.255.255/32",
            "2001:db8::/32",
            "::1/128",
            "::ffff:172.16.0.0/108",
        ]);
        for (address, wanted) in [
            ("9.255.255.255", false),
            ("10.0.0.0", true),
            ("10.1.2.3", true),
            ("11.255.255.255", true),
            ("12.0.0.0", false),
            ("192.0.2.6", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("255.255.255.255", true),
            ("255.255.255.254", false),
            ("172.20.0.1", true),
            ("172.32.0.0", false),
            ("::ffff:10.0.0.1", true),
            ("::ffff:12.0.0.1", false),
            ("::1", true),
            ("::2", false),
            ("2001:db8:ffff::", true),
            ("2001:db9::", false),
            ("0.0.0.1", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(nets.contains(address), wanted, "{address}");
        }
    }

    #[test]
    fn everything_of_one_family_is_nothing_of_the_other() {
        let (four, six) = (set(&["0.0.0.0/0"]), set(&["::/0"]));
        let v4 = "10.0.0.1".parse().expect("an address");
        let v6 = "fe80::1".parse().expect("an address");
        assert!(four.contains(v4) && !four.contains(v6));
        assert!(six.contains(v6) && !six.contains(v4));
        assert!(!set(&[]).contains(v4) && set(&[]).is_empty() && !four.is_empty());
    }

    #[test]
    fn a_set_is_within_one_that_holds_all_of_it() {
        for (inner, outer, wanted) in [
            (&["10.1.0.0/16"][..], &["10.0.0.0/8"][..], true),
            (&["10.0.0.0/8"], &["10.0.0.0/9", "10.128.0.0/9"], true),
            (&["10.0.0.0/8"], &["10.0.0.0/9"], false),
            (&["10.0.0.0/8", "::1/128"], &["10.0.0.0/8"], false),
            (&["::1/128"], &["::/0"], true),
            (&[], &[], true),
        ] {
            let is = set(inner).is_within(&set(outer));
            assert_eq!(is, wanted, "{inner:?} in {outer:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_look_at_each_network_finds(
            nets in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..40),
            addresses in proptest::collection::vec(any::<u32>(), 0..40),
        ) {
            let nets: Vec<IpNet> = nets
                .into_iter()
                .filter_map(|(bits, length)| IpNet::new(IpAddr::V4(bits.into()), length).ok())
                .collect();
            let edges = nets.iter().flat_map(|net| [net.network(), net.broadcast()]);
            let others = addresses.into_iter().map(|bits| IpAddr::V4(bits.into()));
            let set: Networks = nets.iter().copied().collect();
            let list = set.to_string();
            let again: Vec<IpNet> = list.split(',').flat_map(str::parse).collect();
            prop_assert!(again.len() <= nets.len(), "{}", list);
            prop_assert_eq!(&again.into_iter().collect::<Networks>(), &set, "{}", list);
            for address in edges.chain(others) {
                let linear = nets.iter().any(|net| net.contains(&address));
                prop_assert_eq!(set.contains(address), linear, "{}", address);
            }
        }
    }
}
