//! Numbers and addresses as text, without `core::fmt`.
//!
//! What `core::fmt` calls it calls through pointers, so the compiler must take
//! it that anything there may panic. The shim has to do without.

/// Copies as many bytes as both have. Unlike `copy_from_slice` it cannot panic,
/// and the compiler sees that at once: the shim carries nothing of a panic.
#[inline]
pub(crate) fn fill(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}

/// Where the text goes; `None` if it does not fit.
pub trait Out {
    /// Takes one more byte.
    fn byte(&mut self, byte: u8) -> Option<()>;

    /// Takes some text.
    fn write(&mut self, text: &str) -> Option<()> {
        text.bytes().try_for_each(|byte| self.byte(byte))
    }
}

/// Returns whether a character has no business in a line for people: control
/// characters, and those that turn the direction of writing or end a line.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// How many columns of a terminal a character takes, nearly as wcwidth(3) says.
#[cfg(feature = "alloc")]
#[must_use]
pub fn width(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97c}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff01}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

fn number(mut n: u32, radix: u32, out: &mut impl Out) -> Option<()> {
    let mut digits = [0u8; 10];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        let d = (n % radix) as u8;
        *digit = if d < 10 { b'0' + d } else { b'a' - 10 + d };
        count += 1;
        n /= radix;
        if n == 0 {
            break;
        }
    }
    let from = digits.len().checked_sub(count)?;
    digits.get(from..)?.iter().try_for_each(|&d| out.byte(d))
}

/// A number.
pub fn decimal(n: u32, out: &mut impl Out) -> Option<()> {
    number(n, 10, out)
}

/// An IPv4 address.
pub fn v4(ip: [u8; 4], out: &mut impl Out) -> Option<()> {
    for (i, octet) in ip.into_iter().enumerate() {
        if i != 0 {
            out.byte(b'.')?;
        }
        decimal(u32::from(octet), out)?;
    }
    Some(())
}

/// An IPv6 address, as RFC 5952 wants it.
pub fn v6(ip: [u8; 16], out: &mut impl Out) -> Option<()> {
    if let [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] = ip {
        out.write("::ffff:")?;
        return v4([a, b, c, d], out);
    }
    let mut groups = [0u16; 8];
    for (group, pair) in groups.iter_mut().zip(ip.as_chunks::<2>().0) {
        *group = u16::from_be_bytes(*pair);
    }
    let (from, len) = longest_run_of_zeros(&groups);
    for (i, &group) in groups.iter().enumerate() {
        if len > 1 && (from..from + len).contains(&i) {
            if i == from {
                out.write("::")?;
            }
            continue;
        }
        if i != 0 && !(len > 1 && i == from + len) {
            out.byte(b':')?;
        }
        number(u32::from(group), 16, out)?;
    }
    Some(())
}

/// Where the first of the longest ones begins, and its length.
fn longest_run_of_zeros(groups: &[u16; 8]) -> (usize, usize) {
    let (mut best, mut run) = ((0, 0), (0, 0));
    for (i, &group) in groups.iter().enumerate() {
        run = match group {
            0 if run.1 != 0 => (run.0, run.1 + 1),
            0 => (i, 1),
            _ => (0, 0),
        };
        if run.1 > best.1 {
            best = run;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::string::{String, ToString};

    impl Out for String {
        fn byte(&mut self, byte: u8) -> Option<()> {
            self.push(byte as char);
            Some(())
        }
    }

    #[test]
    fn addresses_and_numbers_read_as_std_prints_them() {
        // Every pattern of zero groups, with groups of every length in digits.
        for mask in 0..=255u8 {
            for seed in [1u16, 0x10, 0xabc, 0xffff, 0x7f01] {
                let mut ip = [0; 16];
                for (i, pair) in ip.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                    *pair = match mask >> i & 1 {
                        0 => [0; 2],
                        _ => seed.to_be_bytes(),
                    };
                }
                let mut got = String::new();
                v6(ip, &mut got).unwrap();
                assert_eq!(got, Ipv6Addr::from(ip).to_string());
            }
        }
        for n in [0, 1, 9, 10, 255, 256, 65535, 1_000_000_007, u32::MAX] {
            let mut got = String::new();
            decimal(n, &mut got).unwrap();
            assert_eq!(got, n.to_string());
            let (mut got, ip) = (String::new(), n.to_be_bytes());
            v4(ip, &mut got).unwrap();
            assert_eq!(got, Ipv4Addr::from(ip).to_string());
        }
    }

    #[test]
    fn what_does_not_fit_says_so() {
        struct Full;
        impl Out for Full {
            fn byte(&mut self, _: u8) -> Option<()> {
                None
            }
        }
        assert!(v4([1, 2, 3, 4], &mut Full).is_none());
        assert!(v6([0; 16], &mut Full).is_none());
    }
}
