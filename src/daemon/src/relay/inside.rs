//! Sockets of the run's own network, for whoever is not in it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use bindgate_os::diag::Asker;
use bindgate_os::{inet, unix};

use super::Way;

/// The way to the run's own network.
pub struct Inside {
    way: Way,
    /// Who asks in there.
    pub asker: Option<Asker>,
    /// What is made in there comes over this.
    line: (OwnedFd, OwnedFd),
    /// Sockets for clients that are still to come: of which kind and family.
    stock: Vec<(bool, bool, OwnedFd)>,
}

/// Descriptors that one message brings, and messages of one visit.
const AT_ONCE: usize = 3;
const VISIT: usize = 4;

impl Inside {
    /// By this way.
    ///
    /// # Errors
    /// If the network cannot be entered.
    pub fn of(way: Way) -> io::Result<Inside> {
        let line = unix::pair()?;
        // A child makes it, whose descriptors are not this process's.
        way.within(|| {
            let asker = Asker::new();
            let fds = asker.as_ref().map(Asker::fd);
            unix::send_with(&line.1, b"a", fds.as_slice())
        })??;
        let (_, fds) = unix::receive_any(&line.0, &mut [0; 1], false)?;
        Ok(Inside {
            way,
            asker: fds.into_iter().next().map(Asker::from_fd),
            line,
            stock: Vec::new(),
        })
    }

    /// A new socket in there.
    ///
    /// # Errors
    /// If there can be none.
    pub fn socket(&mut self, is_udp: bool, is_six: bool) -> io::Result<OwnedFd> {
        let is_it = |(udp, six, _): &(bool, bool, OwnedFd)| (*udp, *six) == (is_udp, is_six);
        if !self.stock.iter().any(is_it) {
            self.visit(is_udp, is_six)?;
        }
        let at = self.stock.iter().position(is_it);
        let at = at.ok_or(io::ErrorKind::NotConnected)?;
        Ok(self.stock.swap_remove(at).2)
    }

    fn visit(&mut self, is_udp: bool, is_six: bool) -> io::Result<()> {
        let line = &self.line;
        self.way.within(|| {
            (0..VISIT).try_for_each(|_| {
                let made = (0..AT_ONCE).map(|_| inet::socket(is_udp, is_six));
                let made = made.collect::<io::Result<Vec<_>>>()?;
                let fds: Vec<_> = made.iter().map(AsRawFd::as_raw_fd).collect();
                unix::send_with(&line.1, b"s", &fds)
            })
        })??;
        while let Ok((1.., fds)) = unix::receive_any(&line.0, &mut [0; 1], false) {
            let fds = fds.into_iter().map(|fd| (is_udp, is_six, fd));
            self.stock.extend(fds);
        }
        Ok(())
    }
}
