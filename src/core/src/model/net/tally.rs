//! Owners as numbers: what a port and an address know of theirs.

use super::class::{Asker, Class, Scope, Summary, each};
use super::counts::Of;
use super::{NONE, Net, Sock, SockId};

/// How a socket counts among the owners of a port.
pub(super) type Standing = (Class, u32, u32);

pub(super) fn standing(s: &Sock) -> Standing {
    (Class::of(s), s.dev, s.uid)
}

impl Summary {
    /// Counts one that is the first, or is like all the others; false for any
    /// other.
    fn joins(&mut self, (class, dev, uid): Standing) -> bool {
        let present = self.present();
        if present == 0 {
            self.dev = dev;
            self.uid = uid;
            self.mixed = 0;
            self.alike = 1;
            self.set_present(class.bit());
            return true;
        }
        let like_all = self.alike != 0
            && self.mixed == 0
            && (self.dev, self.uid) == (dev, uid)
            && present == class.bit();
        if like_all {
            self.alike = self.alike.saturating_add(1);
        }
        like_all
    }
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

    pub(super) fn enter(&mut self, id: SockId, standing: Standing) {
        let s = self.get(id);
        let group = s.bind2;
        let Some(i) = Self::bucket_index(s.table, s.num) else {
            return;
        };
        // mutants: faster: nearly all ports' owners are alike
        let head = if let Some(b) = self.buckets.get_mut(i as usize)
            && b.sum.joins(standing)
        {
            let head = if b.sum.alike == 1 { 0 } else { b.class_head };
            b.class_head = id.0 + 1;
            head
        } else {
            let (class, ..) = standing;
            let port = Scope::Port(i);
            self.count_in(port, standing);
            let head = self.class_head(port, class);
            self.set_class_head(port, class, id.0 + 1);
            head
        };
        let head = head.wrapping_sub(1);
        let group_joined = match self.groups.get_mut(group as usize) {
            Some(g) => g.sum.joins(standing),
            None => false,
        };
        if !group_joined {
            self.count_in(Scope::Group(group), standing);
        }
        self.raw(id.0, |s| {
            s.class_prev = NONE;
            s.class_next = head;
        });
        self.raw(head, |h| h.class_prev = id.0);
    }

    /// One that does not join those who are alike ([`Summary::joins`]).
    fn count_in(&mut self, scope: Scope, (class, dev, uid): Standing) {
        let mut sum = self.summary(scope);
        let present = sum.present();
        let as_they_are = sum.mixed == 0 && (sum.dev, sum.uid) == (dev, uid);
        if sum.alike != 0 {
            // Until now all were alike.
            for old in each(present) {
                let head = self.class_head(scope, old);
                self.counts.add(scope, old, Of::ALL, sum.alike);
                self.counts.set_head(scope, old, head);
            }
            sum.alike = 0;
        }
        if sum.mixed == 0 && !as_they_are {
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

    pub(super) fn leave(&mut self, id: SockId, standing: Standing) {
        let Some(scopes) = self.scopes(id) else {
            return;
        };
        let (prev, next) = (self.get(id).class_prev, self.get(id).class_next);
        let [port, _] = scopes;
        let (class, ..) = standing;
        if prev == NONE {
            self.set_class_head(port, class, next.wrapping_add(1));
        }
        self.raw(prev, |p| p.class_next = next);
        self.raw(next, |n| n.class_prev = prev);
        for scope in scopes {
            self.count_out(scope, standing);
        }
    }

    fn count_out(&mut self, scope: Scope, (class, dev, uid): Standing) {
        let mut sum = self.summary(scope);
        if sum.alike != 0 {
            sum.alike -= 1;
            if sum.alike == 0 {
                sum.set_present(0);
            }
            self.set_summary(scope, sum);
            return;
        }
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

    /// How many owners of a class a scope has.
    fn number(&self, scope: Scope, sum: &Summary, class: Class) -> u32 {
        match sum.alike {
            0 => self.counts.get(scope, class, Of::ALL),
            n if sum.present() == class.bit() => n,
            _ => 0,
        }
    }

    /// The first of a port's owners of a class, one more than its number; 0
    /// for none. Only ports have these lists.
    pub(super) fn class_head(&self, scope: Scope, class: Class) -> u32 {
        let Scope::Port(i) = scope else {
            return 0;
        };
        match self.buckets.get(i as usize) {
            Some(b) if b.sum.alike == 0 => self.counts.head(scope, class),
            Some(b) if b.sum.present() == class.bit() => b.class_head,
            _ => 0,
        }
    }

    fn set_class_head(&mut self, scope: Scope, class: Class, head: u32) {
        let Scope::Port(i) = scope else {
            return;
        };
        match self.buckets.get_mut(i as usize) {
            Some(b) if b.sum.alike != 0 => b.class_head = head,
            _ => self.counts.set_head(scope, class, head),
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
            let n = self.number(scope, sum, class).saturating_sub(own);
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
