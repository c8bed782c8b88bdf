//! The options of vsock sockets, of linux/vm_sockets.h, as the kernel keeps
//! them: for a socket that is not the kernel's.

use crate::addr::af;
use crate::errno::{EINVAL, ENOPROTOOPT, ERANGE};

/// The level of the options.
pub const LEVEL: i32 = af::VSOCK as i32;

/// Longest value, bytes.
pub const VALUE: usize = 16;

/// `SO_VM_SOCKETS_…`
pub mod option {
    #![allow(missing_docs)]
    pub const BUFFER_SIZE: i32 = 0;
    pub const BUFFER_MIN_SIZE: i32 = 1;
    pub const BUFFER_MAX_SIZE: i32 = 2;
    /// With a `struct timeval`.
    pub const CONNECT_TIMEOUT_OLD: i32 = 6;
    /// With a `struct __kernel_sock_timeval`, which has the same bytes on
    /// machines of 64 bits.
    pub const CONNECT_TIMEOUT: i32 = 8;
}

/// The values that a socket has. The kernel rounds the time-out up to its own
/// clock; here it stays as it was set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    size: u64,
    min: u64,
    max: u64,
    /// Seconds and microseconds.
    timeout: [i64; 2],
}

impl Default for Options {
    fn default() -> Options {
        Options {
            size: 256 << 10,
            min: 128,
            max: 256 << 10,
            timeout: [2, 0],
        }
    }
}

impl Options {
    /// The options that have a value of their own, in the order in which they
    /// can be set on a new socket.
    pub const NAMES: [i32; 4] = [
        option::BUFFER_MAX_SIZE,
        option::BUFFER_MIN_SIZE,
        option::BUFFER_SIZE,
        option::CONNECT_TIMEOUT,
    ];

    /// How many of `len` bytes setsockopt(2) reads.
    ///
    /// # Errors
    /// If there is no such option, or the bytes are too few.
    pub fn reads(level: i32, name: i32, len: u32) -> Result<usize, u16> {
        match value_len(level, name)? {
            wanted if (len as usize) < wanted => Err(EINVAL),
            wanted => Ok(wanted),
        }
    }

    /// setsockopt(2) with the bytes that [`Options::reads`] asks for.
    ///
    /// # Errors
    /// If the value is none.
    pub fn set(&mut self, name: i32, value: &[u8; VALUE]) -> Result<(), u16> {
        let [first, second] = halves(value);
        match name {
            option::BUFFER_MAX_SIZE => self.max = first,
            option::BUFFER_MIN_SIZE => self.min = first,
            option::BUFFER_SIZE => self.size = first,
            _ => {
                // Longer ones than this are none in any clock of the kernel's.
                const MOST: i64 = i64::MAX / 1000 - 1;
                let (seconds, micros) = (first.cast_signed(), second.cast_signed());
                if !(0..MOST).contains(&seconds) || micros >= 1_000_000 {
                    return Err(ERANGE);
                }
                self.timeout = match (seconds, micros) {
                    (0, 0) => Options::default().timeout,
                    timeout => timeout.into(),
                };
                return Ok(());
            }
        }
        // The lower bound has the last word.
        self.size = self.size.min(self.max).max(self.min);
        Ok(())
    }

    /// getsockopt(2) with room for `room` bytes: the value and its length.
    ///
    /// # Errors
    /// If there is no such option, or the room is too little.
    pub fn get(&self, level: i32, name: i32, room: i32) -> Result<([u8; VALUE], usize), u16> {
        let len = value_len(level, name)?;
        if room < len as i32 {
            return Err(EINVAL);
        }
        Ok((self.value(name), len))
    }

    /// The bytes of an option, to keep them.
    #[must_use]
    pub fn value(&self, name: i32) -> [u8; VALUE] {
        let words = match name {
            option::BUFFER_MAX_SIZE => [self.max, 0],
            option::BUFFER_MIN_SIZE => [self.min, 0],
            option::BUFFER_SIZE => [self.size, 0],
            _ => self.timeout.map(i64::cast_unsigned),
        };
        bytes(words)
    }

    /// `SO_VM_SOCKETS_BUFFER_SIZE` in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// `SO_VM_SOCKETS_CONNECT_TIMEOUT` in nanoseconds.
    #[must_use]
    pub fn timeout(&self) -> u64 {
        let [seconds, micros] = self.timeout.map(i64::cast_unsigned);
        let seconds = seconds.saturating_mul(1_000_000_000);
        seconds.saturating_add(micros.saturating_mul(1000))
    }

    /// Puts back what [`Options::value`] gave, whatever the others are.
    pub fn restore(&mut self, name: i32, value: &[u8; VALUE]) {
        let [first, second] = halves(value);
        match name {
            option::BUFFER_MAX_SIZE => self.max = first,
            option::BUFFER_MIN_SIZE => self.min = first,
            option::BUFFER_SIZE => self.size = first,
            _ => self.timeout = [first, second].map(u64::cast_signed),
        }
    }

    /// Bytes of the value of an option.
    #[must_use]
    pub fn len(name: i32) -> usize {
        match name {
            option::BUFFER_MAX_SIZE | option::BUFFER_MIN_SIZE | option::BUFFER_SIZE => 8,
            _ => 16,
        }
    }
}

/// The bytes of a value of two words.
#[must_use]
pub fn bytes([first, second]: [u64; 2]) -> [u8; VALUE] {
    let [a, b, c, d, e, f, g, h] = first.to_ne_bytes();
    let [i, j, k, l, m, n, o, p] = second.to_ne_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

fn halves(value: &[u8; VALUE]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *value;
    [[a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]].map(u64::from_ne_bytes)
}

fn value_len(level: i32, name: i32) -> Result<usize, u16> {
    match (level, name) {
        (
            LEVEL,
            option::BUFFER_SIZE
            | option::BUFFER_MIN_SIZE
            | option::BUFFER_MAX_SIZE
            | option::CONNECT_TIMEOUT_OLD
            | option::CONNECT_TIMEOUT,
        ) => Ok(Options::len(name)),
        _ => Err(ENOPROTOOPT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(options: &mut Options, name: i32, value: [u64; 2]) -> Result<(), u16> {
        options.set(name, &bytes(value))
    }

    fn get(options: &Options, name: i32) -> u64 {
        let (value, len) = options.get(LEVEL, name, 16).unwrap();
        assert_eq!(len, Options::len(name));
        halves(&value)[0]
    }

    #[test]
    fn the_size_stays_between_its_bounds() {
        let mut o = Options::default();
        assert_eq!(get(&o, option::BUFFER_SIZE), 262_144);
        assert_eq!(set(&mut o, option::BUFFER_SIZE, [1 << 30, 0]), Ok(()));
        assert_eq!(get(&o, option::BUFFER_SIZE), 262_144);
        assert_eq!(set(&mut o, option::BUFFER_SIZE, [1, 0]), Ok(()));
        assert_eq!(get(&o, option::BUFFER_SIZE), 128);
        assert_eq!(set(&mut o, option::BUFFER_MIN_SIZE, [4096, 0]), Ok(()));
        assert_eq!(get(&o, option::BUFFER_SIZE), 4096);
        assert_eq!(set(&mut o, option::BUFFER_MAX_SIZE, [64, 0]), Ok(()));
        assert_eq!(get(&o, option::BUFFER_SIZE), 4096);
        let mut again = Options::default();
        for name in Options::NAMES {
            again.restore(name, &o.value(name));
        }
        assert_eq!(again, o);
    }

    #[test]
    fn a_time_out_of_nothing_is_the_default() {
        let mut o = Options::default();
        for name in [option::CONNECT_TIMEOUT, option::CONNECT_TIMEOUT_OLD] {
            assert_eq!(set(&mut o, name, [7, 500]), Ok(()));
            assert_eq!(get(&o, name), 7);
            assert_eq!(set(&mut o, name, [0, 0]), Ok(()));
            assert_eq!(get(&o, name), 2);
            assert_eq!(set(&mut o, name, [0, 1_000_000]), Err(ERANGE));
            assert_eq!(set(&mut o, name, [u64::MAX, 0]), Err(ERANGE));
        }
    }

    #[test]
    fn what_is_not_there_is_said_before_the_length() {
        assert_eq!(Options::reads(LEVEL, 3, 0), Err(ENOPROTOOPT));
        assert_eq!(Options::reads(6, 0, 8), Err(ENOPROTOOPT));
        assert_eq!(Options::reads(LEVEL, option::BUFFER_SIZE, 7), Err(EINVAL));
        assert_eq!(Options::reads(LEVEL, option::BUFFER_SIZE, 99), Ok(8));
        assert_eq!(
            Options::reads(LEVEL, option::CONNECT_TIMEOUT, 8),
            Err(EINVAL)
        );
        let o = Options::default();
        assert_eq!(o.get(LEVEL, option::BUFFER_SIZE, -1), Err(EINVAL));
        assert_eq!(o.get(LEVEL, 5, 8), Err(ENOPROTOOPT));
    }
}
