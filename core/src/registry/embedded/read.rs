//! Reading: what a range request finds, in the order and the amount that it asks for.
//!
//! Pure; the same code answers reads of their own and reads inside transactions.

use std::{cmp::Ordering, sync::Arc};

use etcd_client::proto::{PbKeyValue, PbRangeRequest, PbRangeResponse};

use super::{
    range::KeyRange,
    store::{Found, Version, Want},
};

const ORDER_NONE: i32 = 0;
const ORDER_DESCEND: i32 = 2;

const TARGET_KEY: i32 = 0;
const TARGET_VERSION: i32 = 1;
const TARGET_CREATE: i32 = 2;
const TARGET_MOD: i32 = 3;
const TARGET_VALUE: i32 = 4;

/// Looks up what `request` needs to see, through `read`.
pub(super) fn lookup(
    request: &PbRangeRequest,
    read: impl FnOnce(&KeyRange, Want) -> Found,
) -> Found {
    let range = KeyRange::new(&request.key, &request.range_end);
    let want = if request.count_only {
        Want::Count
    } else if is_plain(request) {
        // One more than asked for is not needed: the count tells whether there are more.
        Want::First(usize::try_from(request.limit).unwrap_or(0))
    } else {
        Want::First(0)
    };
    read(&range, want)
}

/// Filters, sorts and cuts what was found. The header is left to the caller.
pub(super) fn respond(request: &PbRangeRequest, found: Found) -> PbRangeResponse {
    let n_found = found.count;
    let mut versions = found.versions;
    if !is_plain(request) {
        versions.retain(|version| passes(request, version));
        sort(request, &mut versions);
    }
    let mut more = false;
    if let Ok(limit) = usize::try_from(request.limit)
        && limit > 0
        && !request.count_only
    {
        let n_all = if is_plain(request) {
            n_found
        } else {
            versions.len()
        };
        more = n_all > limit;
        versions.truncate(limit);
    }
    PbRangeResponse {
        header: None,
        kvs: versions
            .iter()
            .map(|version| {
                let mut shown = key_value(version);
                if request.keys_only {
                    shown.value.clear();
                }
                shown
            })
            .collect(),
        more,
        count: i64::try_from(n_found).unwrap_or(i64::MAX),
    }
}

/// A key and its state, as answers and events show it.
pub(super) fn key_value(version: &Version) -> PbKeyValue {
    PbKeyValue {
        key: version.key.to_vec(),
        create_revision: version.create_revision,
        mod_revision: version.mod_revision,
        version: version.version,
        value: version.value.to_vec(),
        lease: version.lease,
    }
}

/// A deleted key, as events show it.
pub(super) fn tombstone(version: &Version) -> PbKeyValue {
    PbKeyValue {
        key: version.key.to_vec(),
        mod_revision: version.mod_revision,
        ..PbKeyValue::default()
    }
}

/// Whether the order of the keys and the limit say it all.
fn is_plain(request: &PbRangeRequest) -> bool {
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    request.sort_order == ORDER_NONE
        && request.sort_target == TARGET_KEY
        && filters.iter().all(|bound| *bound == 0)
}

fn passes(request: &PbRangeRequest, version: &Version) -> bool {
    let at_least = |bound: i64, value: i64| bound == 0 || value >= bound;
    let at_most = |bound: i64, value: i64| bound == 0 || value <= bound;
    at_least(request.min_mod_revision, version.mod_revision)
        && at_most(request.max_mod_revision, version.mod_revision)
        && at_least(request.min_create_revision, version.create_revision)
        && at_most(request.max_create_revision, version.create_revision)
}

fn sort(request: &PbRangeRequest, versions: &mut [Arc<Version>]) {
    let compare = |a: &Version, b: &Version| -> Ordering {
        match request.sort_target {
            TARGET_VERSION => a.version.cmp(&b.version),
            TARGET_CREATE => a.create_revision.cmp(&b.create_revision),
            TARGET_MOD => a.mod_revision.cmp(&b.mod_revision),
            TARGET_VALUE => a.value.cmp(&b.value),
            _ => a.key.cmp(&b.key),
        }
    };
    if request.sort_order == ORDER_DESCEND {
        versions.sort_by(|a, b| compare(b, a));
    } else {
        versions.sort_by(|a, b| compare(a, b));
    }
}
