//! Where Linux generations differ in what a program sees.

use crate::model::Generation;

/// Is there a `SO_REUSEPORT`, and with it the fastreuseport cache (3.9)?
#[must_use]
pub fn has_reuseport(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// Does the bucket remember that all its owners had `SO_REUSEADDR`? The
/// relinking of the address table in 6.8 made that dead code.
#[must_use]
pub fn fastreuse_lives(g: Generation) -> bool {
    g <= Generation::Linux6_1
}

/// Does `IP_TRANSPARENT` let foreign addresses pass?
#[must_use]
pub fn transparent_binds(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// Is there a sysctl for the first unprivileged port (4.11)?
#[must_use]
pub fn has_unprivileged_start(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// Is there `IP_LOCAL_PORT_RANGE` (6.3)? 6.1 has it by backport.
#[must_use]
pub fn has_port_range(g: Generation) -> bool {
    g >= Generation::Linux6_1
}

/// Do automatic TCP ports avoid the parity that connect() prefers (4.2)?
#[must_use]
pub fn has_parity(g: Generation) -> bool {
    g >= Generation::Linux6_1
}
