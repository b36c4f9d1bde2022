use super::*;
use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;

/// Written apart from the code, after the IANA registries.
const NOT_PUBLIC_V4: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
];

const NOT_PUBLIC_V6: &[&str] = &["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

fn is_listed_v4(address: Ipv4Addr) -> bool {
    let holds = |net: &&str| net.parse::<Ipv4Net>().unwrap().contains(&address);
    NOT_PUBLIC_V4.iter().any(holds)
}

fn is_public(address: impl Into<IpAddr>) -> bool {
    classify(address.into()) == Class::Public
}

/// Any IPv4 address, most of them at the edges of the special ones.
fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let edges: Vec<Ipv4Addr> = NOT_PUBLIC_V4
        .iter()
        .map(|net| net.parse::<Ipv4Net>().unwrap())
        .flat_map(|net| {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(Ipv4Addr::from)
        })
        .collect();
    prop_oneof![any::<Ipv4Addr>(), prop::sample::select(edges)]
}

fn any_v6() -> impl Strategy<Value = Ipv6Addr> {
    let edges: Vec<Ipv6Addr> = NOT_PUBLIC_V6
        .iter()
        .chain(&["2000::/3", "::/3", "fc00::/7", "fe80::/10", "ff00::/8"])
        .map(|net| net.parse::<Ipv6Net>().unwrap())
        .flat_map(|net| {
            let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)].map(Ipv6Addr::from)
        })
        .collect();
    prop_oneof![any::<Ipv6Addr>(), prop::sample::select(edges)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn exactly_the_listed_ipv4_addresses_are_refused(address in any_v4()) {
        prop_assert_eq!(is_public(address), !is_listed_v4(address), "{}", address);
    }

    #[test]
    fn an_ipv6_form_of_an_ipv4_address_is_no_way_round(address in any_v4(), high: u16, low in any::<[u16; 4]>()) {
        let [a, b, c, d] = address.octets();
        let [left, right] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        // Mapped and NAT64 forms are judged as what they stand for.
        prop_assert_eq!(is_public(address.to_ipv6_mapped()), is_public(address));
        let nat64 = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, left, right);
        prop_assert_eq!(is_public(nat64), is_public(address));
        // The others are never public: compatible, local NAT64, 6to4, Teredo.
        let [e, f, g, h] = low;
        for never in [
            address.to_ipv6_compatible(),
            Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, left, right),
            Ipv6Addr::new(0x64, 0xff9b, 1, high, e, f, left, right),
            Ipv6Addr::new(0x2002, left, right, high, e, f, g, h),
            Ipv6Addr::new(0x2001, 0, e, f, g, h, !left, !right),
        ] {
            prop_assert!(!is_public(never), "{}", never);
        }
    }

    #[test]
    fn public_ipv6_addresses_are_global_unicast(address in any_v6()) {
        let global: Ipv6Net = "2000::/3".parse().unwrap();
        let special = NOT_PUBLIC_V6.iter().any(|net| net.parse::<Ipv6Net>().unwrap().contains(&address));
        let embedded = address.to_ipv4_mapped().is_some() || address.segments()[..2] == [0x64, 0xff9b];
        if !embedded {
            prop_assert_eq!(is_public(address), global.contains(&address) && !special, "{}", address);
        }
    }
}

#[test]
fn each_class_is_told() {
    for (address, class) in [
        ("93.184.215.14", Class::Public),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", Class::Public),
        ("::ffff:93.184.215.14", Class::Public),
        ("64:ff9b::5db8:d70e", Class::Public),
        ("0.0.0.0", Class::Unspecified),
        ("::", Class::Unspecified),
        ("127.1.2.3", Class::Loopback),
        ("::1", Class::Loopback),
        ("::ffff:127.0.0.1", Class::Loopback),
        ("64:ff9b::7f00:1", Class::Loopback),
        ("172.31.255.255", Class::Private),
        ("fd12:3456::1", Class::Private),
        ("169.254.1.1", Class::LinkLocal),
        ("fe80::1", Class::LinkLocal),
        ("100.127.255.255", Class::Shared),
        ("239.0.0.1", Class::Multicast),
        ("255.255.255.255", Class::Multicast),
        ("ff02::1", Class::Multicast),
        ("203.0.113.7", Class::Documentation),
        ("3fff:fff::1", Class::Documentation),
        ("198.19.0.1", Class::Benchmarking),
        ("2001:2::1", Class::Benchmarking),
        ("2001:0:1::1", Class::Tunnel),
        ("2002:7f00:1::", Class::Tunnel),
        ("240.0.0.1", Class::Reserved),
        ("::127.0.0.1", Class::Reserved),
        ("fec0::1", Class::Reserved),
        ("169.254.169.254", Class::Metadata),
        ("::ffff:169.254.169.254", Class::Metadata),
        ("64:ff9b::a9fe:a9fe", Class::Metadata),
        ("168.63.129.16", Class::Metadata),
        ("fd00:ec2::254", Class::Metadata),
    ] {
        assert_eq!(classify(address.parse().unwrap()), class, "{address}");
    }
}
