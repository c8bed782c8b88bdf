//! Owners as numbers: what a port and an address know of theirs.

use super::class::{Asker, Class, Scope, Summary, each};
use super::counts::Of;
use super::{NONE, Net, Sock, SockId};

/// How a socket counts among the owners of a port.
pub(super) type Standing = (Class, u32, u32);

pub(super) fn standing(s: &Sock) -> Standing {
    (Class::of(s), s.dev, s.uid)
}

impl Net<'_> {
    /// The two scopes that an owner counts in.
    fn scopes(&self, id: SockId) -> Option<[Scope; 2]> {
        let s = self.get(id);
        Some([
            Scope::Port(Self::bucket_index(s.table, s.num)?),
            Scope::Group(s.bind2),
        ])
    }

    pub(in crate::model) fn summary(&self, scope: Scope) -> Summary {
        match scope {
            Scope::Port(i) => self.buckets.get(i as usize).map(|b| b.sum),
            Scope::Group(i) => self.groups.get(i as usize).map(|g| g.sum),
        }
        .unwrap_or(Summary::EMPTY)
    }

    fn set_summary(&mut self, scope: Scope, sum: Summary) {
        match scope {
            Scope::Port(i) => {
                if let Some(b) = self.buckets.get_mut(i as usize) {
                    b.sum = sum;
                }
            }
            Scope::Group(i) => {
                if let Some(g) = self.groups.get_mut(i as usize) {
                    g.sum = sum;
                }
            }
        }
    }

    pub(super) fn enter(&mut self, id: SockId, (class, dev, uid): Standing) {
        let Some(scopes) = self.scopes(id) else {
            return;
        };
        for scope in scopes {
            let mut sum = self.summary(scope);
            let present = sum.present();
            if present == 0 {
                sum.dev = dev;
                sum.uid = uid;
                sum.mixed = 0;
            } else if sum.mixed == 0 && (sum.dev, sum.uid) != (dev, uid) {
                // Until now all were of one device and user.
                for class in each(present) {
                    let n = self.counts.get(scope, class, Of::ALL);
                    for of in by_dev_and_uid(sum.dev, sum.uid) {
                        self.counts.add(scope, class, of, n);
                    }
                }
                sum.mixed = 1;
            }
            self.counts.add(scope, class, Of::ALL, 1);
            if sum.mixed != 0 {
                for of in by_dev_and_uid(dev, uid) {
                    self.counts.add(scope, class, of, 1);
                }
            }
            sum.set_present(present | class.bit());
            self.set_summary(scope, sum);
        }
        let [port, _] = scopes;
        let head = self.counts.head(port, class).wrapping_sub(1);
        self.raw(id.0, |s| {
            s.class_prev = NONE;
            s.class_next = head;
        });
        self.raw(head, |h| h.class_prev = id.0);
        self.counts.set_head(port, class, id.0 + 1);
    }

    pub(super) fn leave(&mut self, id: SockId, (class, dev, uid): Standing) {
        let Some(scopes) = self.scopes(id) else {
            return;
        };
        let s = *self.get(id);
        let [port, _] = scopes;
        if s.class_prev == NONE {
            self.counts
                .set_head(port, class, s.class_next.wrapping_add(1));
        }
        self.raw(s.class_prev, |p| p.class_next = s.class_next);
        self.raw(s.class_next, |n| n.class_prev = s.class_prev);
        for scope in scopes {
            let mut sum = self.summary(scope);
            if sum.mixed != 0 {
                for of in by_dev_and_uid(dev, uid) {
                    self.counts.sub(scope, class, of);
                }
            }
            if self.counts.sub(scope, class, Of::ALL) == 0 {
                sum.set_present(sum.present() & !class.bit());
                self.set_summary(scope, sum);
            }
        }
    }

    /// The class in which the asker itself counts in a scope.
    pub(in crate::model) fn own_class(
        &self,
        scope: Scope,
        asker: &Asker,
        port: u32,
    ) -> Option<Class> {
        let within = match scope {
            Scope::Port(_) => true,
            Scope::Group(i) => self
                .groups
                .get(i as usize)
                .is_some_and(|g| g.addr == asker.rcv6),
        };
        asker.own_class(port).filter(|_| within)
    }

    /// How many owners of a class have a device that meets the asker's, and
    /// how many of those are its user's. It is not counted itself.
    pub(in crate::model) fn tally(
        &self,
        scope: Scope,
        sum: &Summary,
        class: Class,
        asker: &Asker,
        port: u32,
    ) -> (u32, u32) {
        let own = u32::from(self.own_class(scope, asker, port) == Some(class));
        if sum.mixed == 0 {
            if !meet(sum.dev, asker.dev) {
                return (0, 0);
            }
            let n = self.counts.get(scope, class, Of::ALL).saturating_sub(own);
            return (n, if sum.uid == asker.uid { n } else { 0 });
        }
        let count = |uid: Option<u32>| {
            let of = |dev| self.counts.get(scope, class, Of { dev, uid });
            let n = if asker.dev == 0 {
                of(None)
            } else {
                of(Some(0)).saturating_add(of(Some(asker.dev)))
            };
            n.saturating_sub(own)
        };
        (count(None), count(Some(asker.uid)))
    }
}

/// The three finer counts that an owner is in, beside that of all.
fn by_dev_and_uid(dev: u32, uid: u32) -> [Of; 3] {
    [(Some(dev), None), (None, Some(uid)), (Some(dev), Some(uid))].map(|(dev, uid)| Of { dev, uid })
}

/// May both be bound to these devices?
pub(in crate::model) fn meet(a: u32, b: u32) -> bool {
    a == 0 || b == 0 || a == b
}
