//! A TCP connection that is carried: two connections, and what is on its way between them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use bindgate_os::{Instant, inet};

use super::Direction;

/// What came of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// There is more to do at once.
    More,
    /// It goes on when one of its ends is ready.
    Waits,
    /// It is over.
    Ended,
    /// Nobody was at the far end.
    Refused,
}

/// See the module.
pub struct Connection {
    near: TcpStream,
    far: TcpStream,
    is_there: bool,
    /// From near to far, and back.
    pipes: [Pipe; 2],
    direction: Direction,
    /// The run is over: what its programs have sent is still delivered.
    pub is_over: bool,
    /// When something moved.
    pub moved: Instant,
}

/// One way.
#[derive(Default)]
struct Pipe {
    /// What was read and has not been taken yet.
    kept: Vec<u8>,
    /// How much of it has been taken.
    taken: usize,
    /// The end was read.
    is_read: bool,
    /// It was passed on.
    is_closed: bool,
}

/// What came of a pipe's turn.
enum Flow {
    /// There may be more.
    More,
    /// One of the ends has to be waited for.
    Waits,
}

impl Connection {
    /// A client, and a connection that has begun; is it there?
    ///
    /// # Errors
    /// If a socket does not take an option.
    pub fn new(
        near: TcpStream,
        far: OwnedFd,
        is_there: bool,
        direction: Direction,
    ) -> io::Result<Connection> {
        let (near, far) = (OwnedFd::from(near), far);
        for end in [&near, &far] {
            inet::keep_urgent(end)?;
        }
        let (near, far) = (TcpStream::from(near), TcpStream::from(far));
        near.set_nonblocking(true)?;
        for end in [&near, &far] {
            end.set_nodelay(true)?;
        }
        Ok(Connection {
            near,
            far,
            is_there,
            pipes: Default::default(),
            direction,
            is_over: false,
            moved: Instant::now(),
        })
    }

    /// The descriptors of both ends.
    pub fn fds(&self) -> [RawFd; 2] {
        [self.near.as_raw_fd(), self.far.as_raw_fd()]
    }

    /// Carries what there is.
    pub fn turn(&mut self, buffer: &mut [u8]) -> Turn {
        if !self.is_there {
            match (self.far.take_error(), self.far.peer_addr()) {
                (Ok(None), Ok(_)) => self.is_there = true,
                (Ok(None), Err(_)) => return Turn::Waits,
                _ => {
                    self.reset();
                    return Turn::Refused;
                }
            }
        }
        let [up, down] = &mut self.pipes;
        let (mut near, mut far) = (&self.near, &self.far);
        let moved = &mut self.moved;
        let flows = up
            .carry(&mut near, &mut far, buffer, moved)
            .and_then(|a| Ok([a, down.carry(&mut far, &mut near, buffer, moved)?]));
        let Ok(flows) = flows else {
            self.reset();
            return Turn::Ended;
        };
        let [up, down] = &self.pipes;
        let of_run = match self.direction {
            Direction::Shared => up,
            Direction::Published => down,
        };
        if up.is_closed && down.is_closed || self.is_over && of_run.is_closed {
            Turn::Ended
        } else if flows.iter().any(|flow| matches!(flow, Flow::More)) {
            Turn::More
        } else {
            Turn::Waits
        }
    }

    /// Whoever has reset one end has reset the other.
    fn reset(&self) {
        for end in [&self.near, &self.far] {
            if let Ok(fd) = end.try_clone() {
                let _ = inet::reset_on_close(&fd.into());
            }
        }
    }
}

impl Pipe {
    /// Carries from one end to the other. An error is the end of both.
    fn carry(
        &mut self,
        from: &mut &TcpStream,
        to: &mut &TcpStream,
        buffer: &mut [u8],
        moved: &mut Instant,
    ) -> io::Result<Flow> {
        /// So that one that never ends leaves the others their turn.
        const TURNS: usize = 16;
        for _ in 0..TURNS {
            while let Some(rest) = self.kept.get(self.taken..).filter(|rest| !rest.is_empty()) {
                match write(to, rest)? {
                    None => return Ok(Flow::Waits),
                    Some(n) => self.taken += n,
                }
                *moved = Instant::now();
            }
            self.kept.clear();
            self.taken = 0;
            if self.is_read {
                if !self.is_closed {
                    self.is_closed = true;
                    *moved = Instant::now();
                    to.shutdown(Shutdown::Write)?;
                }
                return Ok(Flow::Waits);
            }
            let n = match from.read(buffer) {
                Ok(n) => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(Flow::Waits),
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            self.is_read = n == 0;
            *moved = Instant::now();
            let read = buffer.get(..n).unwrap_or_default();
            let mut taken = 0;
            while let Some(rest) = read.get(taken..).filter(|rest| !rest.is_empty()) {
                match write(to, rest)? {
                    None => {
                        self.kept.extend_from_slice(rest);
                        return Ok(Flow::Waits);
                    }
                    Some(n) => taken += n,
                }
            }
        }
        Ok(Flow::More)
    }
}

/// How much was taken; `None` if there is no room.
fn write(to: &mut &TcpStream, bytes: &[u8]) -> io::Result<Option<usize>> {
    loop {
        match to.write(bytes) {
            Ok(n) => return Ok(Some(n)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
