//! Users: to find one, to become one, and to keep one capability alone.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use super::check;

/// `CAP_NET_BIND_SERVICE` of capabilities(7).
pub const NET_BIND_SERVICE: u32 = 10;

/// A user whom a program is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// All its groups, as initgroups(3) has them.
    groups: Vec<libc::gid_t>,
    /// Name, home directory and shell, where it is in the list of users.
    pub entry: Option<[OsString; 3]>,
}

fn text(at: *const libc::c_char) -> OsString {
    // SAFETY: a string of the entry that was just found, or none.
    let bytes = (!at.is_null()).then(|| unsafe { CStr::from_ptr(at) }.to_bytes());
    OsStr::from_bytes(bytes.unwrap_or_default()).to_owned()
}

/// Copies an entry of the list of users.
fn read(entry: *const libc::passwd) -> Option<(u32, u32, [OsString; 3])> {
    // SAFETY: null, or an entry that stays until the next look-up; the launcher has
    // one thread when it asks.
    let entry = unsafe { entry.as_ref() }?;
    let strings = [entry.pw_name, entry.pw_dir, entry.pw_shell].map(|s| text(s));
    Some((entry.pw_uid, entry.pw_gid, strings))
}

impl User {
    /// `www-data`, `33` or `33:33`.
    ///
    /// # Errors
    /// Why there is no such user.
    pub fn find(given: &str) -> Result<User, String> {
        let (name, group) = match given.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (given, None),
        };
        // `(uid_t) -1` means none to the system calls.
        let number = |text: &str| text.parse().ok().filter(|n| *n != u32::MAX);
        let by_number = number(name);
        let found = match by_number {
            // SAFETY: takes a number.
            Some(uid) => read(unsafe { libc::getpwuid(uid) }),
            None => {
                let c = CString::new(name).map_err(|_| "a NUL in a name")?;
                // SAFETY: a C string.
                read(unsafe { libc::getpwnam(c.as_ptr()) })
            }
        };
        let group = group
            .map(|group| number(group).ok_or(format!("'{group}' is not the number of a group")))
            .transpose()?;
        let (uid, own, entry) = match (found, by_number, group) {
            (Some((uid, gid, entry)), ..) => (uid, gid, Some(entry)),
            (None, Some(uid), Some(gid)) => (uid, gid, None),
            (None, Some(uid), None) => {
                return Err(format!(
                    "user {uid} is in no list of users: its group is needed too, as in {uid}:{uid}"
                ));
            }
            (None, None, _) => return Err(format!("there is no user '{name}'")),
        };
        let gid = group.unwrap_or(own);
        let groups = match &entry {
            Some([name, ..]) => groups(name, gid)?,
            None => vec![gid],
        };
        Ok(User {
            uid,
            gid,
            groups,
            entry,
        })
    }

    /// Makes this process, or this child that shares memory with it, that user, for
    /// good: by system calls of its own, because those of libc are about all threads
    /// of the memory.
    ///
    /// # Errors
    /// As setresuid(2) and its like.
    pub fn assume(&self) -> io::Result<()> {
        let call = |number, a: libc::c_long, b: libc::c_long, c: libc::c_long| {
            // SAFETY: numbers, or a list that lives as long as the call.
            check(unsafe { libc::syscall(number, a, b, c) } as i32).map(drop)
        };
        let [uid, gid] = [self.uid, self.gid].map(libc::c_long::from);
        let list = self.groups.as_ptr().expose_provenance() as libc::c_long;
        call(
            libc::SYS_setgroups,
            self.groups.len() as libc::c_long,
            list,
            0,
        )?;
        call(libc::SYS_setresgid, gid, gid, gid)?;
        call(libc::SYS_setresuid, uid, uid, uid)
    }
}

fn groups(name: &OsStr, gid: u32) -> Result<Vec<libc::gid_t>, String> {
    let name = CString::new(name.as_bytes()).map_err(|_| "a NUL in a name")?;
    let mut groups = vec![0; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: a C string, and room for so many.
        let n =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let count = usize::try_from(count).unwrap_or(0);
        if n >= 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        if count <= groups.len() {
            return Err("its groups cannot be read".into());
        }
        groups.resize(count, 0);
    }
}

/// Becomes a user that nobody else is, with one capability and no way to get another.
///
/// # Errors
/// If that capability is not there, or the user cannot be changed.
pub fn keep_only(capability: u32) -> io::Result<()> {
    const NOBODY: libc::c_long = 65534;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    /// `_LINUX_CAPABILITY_VERSION_3`
    const VERSION: u32 = 0x2008_0522;
    let prctl = |option: i32, value: libc::c_ulong| {
        // SAFETY: numbers only.
        check(unsafe { libc::prctl(option, value, 0, 0, 0) }).map(drop)
    };
    // Until the kernel knows no more of them.
    for bit in 0..64 {
        if bit != capability && prctl(libc::PR_CAPBSET_DROP, bit.into()).is_err() {
            break;
        }
    }
    prctl(libc::PR_SET_KEEPCAPS, 1)?;
    let call = |number, n: libc::c_long| {
        // SAFETY: numbers, and no list.
        check(unsafe { libc::syscall(number, n, n, n) } as i32).map(drop)
    };
    call(libc::SYS_setgroups, 0)?;
    call(libc::SYS_setresgid, NOBODY)?;
    // Others' processes of one user can end and stop each other. Where the user
    // namespace has no such number, `nobody` has to do.
    let own = 2_000_000_000 + libc::c_long::from(super::process::pid());
    call(libc::SYS_setresuid, own).or_else(|_| call(libc::SYS_setresuid, NOBODY))?;
    let one = Data {
        effective: 1 << capability,
        permitted: 1 << capability,
        inheritable: 0,
    };
    let none = Data {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    };
    let header = Header {
        version: VERSION,
        pid: 0,
    };
    let data = [one, none];
    // SAFETY: a header of version 3 and two structures, which outlive the call.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) } as i32)?;
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    // Nobody of the same user traces it or takes its descriptors.
    prctl(libc::PR_SET_DUMPABLE, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_name_or_number() {
        let root = User::find("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(User::find("0").unwrap(), root);
        let [name, home, _] = root.entry.unwrap();
        assert!(name == "root" && !home.is_empty());
        let nobody = User::find("4000000000:7").unwrap();
        assert_eq!(
            (nobody.uid, nobody.gid, nobody.entry),
            (4000000000, 7, None)
        );
        for wrong in ["4000000000", "surely-no-user", "", "0:x", "4294967295:1"] {
            assert!(User::find(wrong).is_err(), "{wrong}");
        }
    }
}
