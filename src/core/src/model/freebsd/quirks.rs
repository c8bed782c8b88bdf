//! Where FreeBSD's generations differ in what a program sees, a function for
//! each difference. `scripts/facts` has a script for each on either side.

use crate::model::Generation;

/// Does capability mode refuse bind(2)? Since 10.0, which has bindat(2) for
/// that: `kern_bindat`. `kern_bind` of 9.1 asks for the descriptor's right
/// only.
#[must_use]
pub fn capability_mode_refuses(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Is there `SO_REUSEPORT_LB`? Since 12.0.
#[must_use]
pub fn has_reuseport_lb(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Does `in_pcbbind_setup` refuse every address while the host has no IPv4
/// address at all? Until 13 (marked "XXX broken!" there).
#[must_use]
pub fn needs_an_address(g: Generation) -> bool {
    g <= Generation::FreeBsd9_1
}

/// Does `in_pcbbind_setup` look at the family? In 9.1 that stands behind
/// `#ifdef notdef`, for programs that forget to set it.
#[must_use]
pub fn looks_at_family(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// Is `SO_REUSEPORT` as good as `SO_REUSEADDR` on a multicast address beside
/// an owner that has only the latter? Since PR 179901 was closed (10.0).
#[must_use]
pub fn multicast_reuseport_is_reuseaddr(g: Generation) -> bool {
    g > Generation::FreeBsd9_1
}

/// May two users' sockets share the wildcard by `SO_REUSEPORT`? Until that
/// exemption went to `SO_REUSEPORT_LB` (12.0), and away (14.3).
#[must_use]
pub fn wildcards_of_users_share(g: Generation) -> bool {
    g <= Generation::FreeBsd9_1
}
