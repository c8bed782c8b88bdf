//! Short texts without an allocator: paths of `/proc`, for the most part.

/// `before`, a number and `after` in `buf`, with a NUL at the end; `None` if
/// that does not fit.
pub fn print<'a>(
    buf: &'a mut [u8],
    before: &[u8],
    mut number: u64,
    after: &[u8],
) -> Option<&'a [u8]> {
    let mut digits = [0u8; 20];
    let mut from = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        from = from.saturating_sub(1);
        if number == 0 {
            break;
        }
    }
    let digits = digits.get(from..)?;
    let mut len = 0;
    for byte in before.iter().chain(digits).chain(after).chain(b"\0") {
        *buf.get_mut(len)? = *byte;
        len += 1;
    }
    buf.get(..len)
}

/// The parts one after the other at the beginning of `to`: how many bytes they
/// take, or `None` if there is no room for all.
pub fn join(to: &mut [u8], parts: &[&[u8]]) -> Option<usize> {
    let mut len = 0;
    for part in parts {
        for byte in *part {
            *to.get_mut(len)? = *byte;
            len += 1;
        }
    }
    Some(len)
}
