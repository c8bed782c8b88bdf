//! The driver of the judge: answers what its machines ask, by the kernel's word.
//!
//! It decides nothing. Where this thread may not ask, it says so, and the
//! machine judges every possibility.

use core::ffi::c_int;
use core::sync::atomic::Ordering::Relaxed;

use bindgate_core::addr::{Addr, af};
use bindgate_core::judge::{self, Answer, Caller, Need, Socket, Step};
use bindgate_core::policy::Times;
use bindgate_core::record::Identity;

use crate::own::{fds, filter};
use crate::redirect;
use crate::session::{self, Run};
use crate::sys::{self, Call};

/// Who calls: this process, under the policy of its run.
pub fn caller(run: &Run) -> Caller<'_> {
    let (program, script) = session::who::for_rules();
    Caller {
        view: &run.view,
        observe: run.observe,
        unprivileged_start: run.state.header.unprivileged_start.load(Relaxed) as u16,
        program,
        script,
    }
}

/// Answers for one descriptor.
pub struct Driver<'r> {
    run: &'r Run,
    fd: c_int,
    /// The name that was asked for last.
    name: Option<Addr>,
    /// Is the cookie wanted with the socket's type?
    with_cookie: bool,
    /// Is the type wanted that the program believes in?
    as_believed: bool,
}

impl<'r> Driver<'r> {
    /// The least that makes sure of the socket.
    pub fn new(run: &'r Run, fd: c_int) -> Driver<'r> {
        Driver {
            run,
            fd,
            name: None,
            with_cookie: false,
            as_believed: false,
        }
    }

    /// The socket as its program believes it to be, with its cookie.
    pub fn as_believed(run: &'r Run, fd: c_int) -> Driver<'r> {
        Driver {
            as_believed: true,
            ..Driver::with_cookie(run, fd)
        }
    }

    /// The same with the socket's cookie, for a record.
    pub fn with_cookie(run: &'r Run, fd: c_int) -> Driver<'r> {
        Driver {
            with_cookie: true,
            ..Driver::new(run, fd)
        }
    }

    /// Answers one need.
    pub fn answer(&mut self, need: Need) -> Answer<'_> {
        let allowed = filter::allowed();
        match need {
            Need::Socket => self.socket(),
            Need::Protocol => Answer::Protocol(fds::protocol(allowed, self.fd)),
            Need::Bound => Answer::Bound(
                allowed
                    .may(Call::Getsockname)
                    .then(|| fds::is_bound_now(allowed, self.fd)),
            ),
            Need::Name => self.name(),
            Need::V6Only => Answer::V6Only(
                allowed
                    .may(Call::Getsockopt)
                    .then(|| redirect::is_v6only(allowed, self.fd)),
            ),
            Need::User => Answer::User(sys::geteuid(allowed)),
            Need::Privilege { port } => {
                Answer::Unprivileged(redirect::is_unprivileged(allowed, port))
            }
            Need::Use { counter, uses } => Answer::Use(self.run.take(counter, uses)),
        }
    }

    fn socket(&self) -> Answer<'static> {
        let allowed = filter::allowed();
        if !allowed.may(Call::Getsockopt) {
            // What the hooks saw of it is all that there is.
            let cached = fds::get(self.fd);
            return match cached.is_valid() {
                true => Answer::Socket(Socket {
                    identity: Identity::Cached,
                    ..Socket::described(cached.socket())
                }),
                false => Answer::UnknownSocket,
            };
        }
        if let Some(socket) = redirect::vsock::carrier(allowed, self.run, self.fd) {
            return Answer::Socket(socket);
        }
        let found = match self.with_cookie {
            true => fds::identify(allowed, self.fd),
            false => fds::verify(allowed, self.fd),
        };
        let Ok(mut socket) = found else {
            return Answer::NoSocket;
        };
        if self.as_believed || self.run.has_carriers && socket.ty.domain == af::UNIX {
            redirect::believe(allowed, self.run, self.fd, self.as_believed, &mut socket);
        }
        Answer::Socket(socket)
    }

    // Not inlined: the other answers do not need room for a name.
    #[inline(never)]
    fn name(&mut self) -> Answer<'_> {
        let allowed = filter::allowed();
        if !allowed.may(Call::Getsockname) {
            return Answer::Name(None);
        }
        let ty = fds::get(self.fd).socket();
        let ty = redirect::virtual_type(allowed, self.run, self.fd, ty);
        self.name = redirect::local_name(allowed, self.run, self.fd).and_then(|raw| raw.read());
        Answer::Name(Some((ty, self.name.as_ref())))
    }

    /// Answers whatever the machine of a call asks, to the end.
    #[inline]
    pub fn drive(&mut self, call: &mut judge::Call<'_>) {
        while let Step::Need(need) = call.step() {
            call.feed(self.answer(need));
        }
    }
}
