//! The names of Unix sockets.

use core::fmt;

use super::Addr;

/// How a Unix socket is named; see unix(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnixKind {
    /// Address length 2: the kernel picks five hex digits in the abstract space.
    Auto,
    /// A file system path.
    Path,
    /// The bytes after a leading NUL.
    Abstract,
}

/// The name of a Unix socket, without the leading NUL of an abstract one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UnixName {
    /// Which name space it is in.
    pub kind: UnixKind,
    len: u8,
    bytes: [u8; 108],
}

impl UnixName {
    /// The request for a name of the kernel's choice.
    pub const AUTO: UnixName = UnixName {
        kind: UnixKind::Auto,
        len: 0,
        bytes: [0; 108],
    };

    /// A path of 1 to 108 bytes (108: without a terminating NUL).
    #[must_use]
    pub fn path(path: &[u8]) -> Option<UnixName> {
        if path.contains(&0) {
            return None;
        }
        Self::path_before_nul(path)
    }

    /// The same of bytes that are known to hold no NUL.
    pub(super) fn path_before_nul(path: &[u8]) -> Option<UnixName> {
        if path.is_empty() {
            return None;
        }
        Self::of(UnixKind::Path, path)
    }

    /// An abstract name of 0 to 107 bytes, without its leading NUL.
    #[must_use]
    pub fn abstract_(name: &[u8]) -> Option<UnixName> {
        if name.len() > 107 {
            return None;
        }
        Self::of(UnixKind::Abstract, name)
    }

    fn of(kind: UnixKind, name: &[u8]) -> Option<UnixName> {
        let mut bytes = [0; 108];
        bytes.get_mut(..name.len())?.copy_from_slice(name);
        Some(UnixName {
            kind,
            len: name.len() as u8,
            bytes,
        })
    }

    /// The bytes of the path or of the abstract name.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl fmt::Debug for UnixName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Addr::Unix(*self))
    }
}
