//! The bytes of a sibling.
//!
//! ```text
//! sibling  dot | flags | stamp | [rank] | [deadline] | [context | [through]] | [value]
//! flags    1 certificate, 2 deadline, 4 context, 8 context with dots of an actor up to a counter,
//!          16 the value stands elsewhere, 32 a rank that is not the dot
//! ```

use bytes::Bytes;

use super::Sibling;
use crate::context::Context;
use crate::dot::Dot;
use crate::error::DecodeError;
use crate::hlc::Stamp;
use crate::record::Body;
use crate::table::{TableReader, TableWriter};
use crate::wire::{Reader, put_bytes, put_number};

const CERTIFICATE: u8 = 1;
const DEADLINE: u8 = 2;
const CONTEXT: u8 = 4;
const THROUGH: u8 = 8;
const APART: u8 = 16;
const RANK: u8 = 32;

/// Appends a sibling with its dot; `apart` leaves out the value, which the reader gets elsewhere.
pub(crate) fn put_sibling(
    out: &mut Vec<u8>,
    table: &mut TableWriter,
    dot: Dot,
    sibling: &Sibling,
    apart: bool,
) {
    table.put_dot(out, dot);
    let through = sibling.context.as_ref().and_then(Context::through);
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    out.push(
        flag(sibling.body.is_certificate(), CERTIFICATE)
            | flag(sibling.deadline.is_some(), DEADLINE)
            | flag(sibling.context.is_some(), CONTEXT)
            | flag(through.is_some(), THROUGH)
            | flag(apart, APART)
            | flag(sibling.rank != dot, RANK),
    );
    put_number(out, sibling.stamp.0);
    if sibling.rank != dot {
        table.put_dot(out, sibling.rank);
    }
    if let Some(deadline) = sibling.deadline {
        put_number(out, deadline.0);
    }
    if let Some(context) = &sibling.context {
        put_number(out, table.shared(context.shared()));
    }
    if let Some(through) = through {
        table.put_dot(out, through);
    }
    if let Body::Value(value) = &sibling.body
        && !apart
    {
        put_bytes(out, value);
    }
}

/// For [`read_sibling`] where no value stands elsewhere.
pub(crate) fn nowhere(_: Dot) -> Result<Bytes, DecodeError> {
    Err(DecodeError::OutOfRange("a value that stands elsewhere"))
}

/// Reads a sibling with its dot; `value` gives what was left out.
pub(crate) fn read_sibling(
    reader: &mut Reader<'_>,
    table: &mut TableReader,
    value: impl FnOnce(Dot) -> Result<Bytes, DecodeError>,
) -> Result<(Dot, Sibling), DecodeError> {
    let dot = table.dot(reader)?;
    let flags = reader.byte()?;
    let has = |flag: u8| flags & flag != 0;
    let known = CERTIFICATE | DEADLINE | CONTEXT | THROUGH | APART | RANK;
    if has(!known) || (has(THROUGH) && !has(CONTEXT)) || (has(APART) && has(CERTIFICATE)) {
        return Err(DecodeError::OutOfRange("flags"));
    }
    let stamp = Stamp(reader.number()?);
    let rank = if has(RANK) { table.rank(reader, dot)? } else { dot };
    let deadline = if has(DEADLINE) { Some(Stamp(reader.number()?)) } else { None };
    let shared = if has(CONTEXT) { Some(table.shared(reader)?) } else { None };
    let through = if has(THROUGH) { Some(table.dot(reader)?) } else { None };
    let context = shared.map(|shared| match through {
        Some(through) => Context::with_own(shared, through),
        None => Context::new(shared),
    });
    let body = if has(CERTIFICATE) {
        Body::Certificate
    } else if has(APART) {
        Body::Value(value(dot)?)
    } else {
        Body::Value(reader.value()?)
    };
    Ok((dot, Sibling { stamp, rank, body, deadline, context }))
}
