//! Gives a stable code to statuses that were made before a handler ran.
//!
//! The transport refuses what it cannot read: an unknown method, a message beyond the limit,
//! malformed protobuf. Such a status carries no detail of ours, and a client would have to take
//! the outcome of its write as unknown. Here it becomes a [`Failure`] that says what is certain:
//! nothing was applied.
//!
//! Only statuses in the *headers* of a response are looked at. Handlers of this crate always give
//! a detail, and an error while a reply is written stands in the trailers: by then the handler ran.

use http::Response;
use proto::{Applied, Code, Failure, limits};
use tonic::Status;
use tonic::body::Body;

/// Wraps the status of a response, if it is one made by the transport.
pub fn wrap(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()).as_ref().and_then(failure) {
        Some(failure) => failure.to_status().into_http(),
        None => response,
    }
}

/// What the transport meant; `None` when the status is not one that it makes before a handler.
fn failure(status: &Status) -> Option<Failure> {
    if !status.details().is_empty() {
        return None;
    }
    let (code, why) = match status.code() {
        tonic::Code::Unimplemented if status.message().is_empty() => {
            (Code::Unimplemented, "the server does not know this method".to_owned())
        }
        tonic::Code::Unimplemented => (Code::Unimplemented, status.message().to_owned()),
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => {
            let most = limits::REQUEST_BYTES_MAX;
            (Code::RequestTooLarge, format!("the request has more than {most} bytes"))
        }
        tonic::Code::Internal | tonic::Code::InvalidArgument => {
            (Code::InvalidRequest, format!("the request cannot be read: {}", status.message()))
        }
        tonic::Code::Ok
        | tonic::Code::Cancelled
        | tonic::Code::Unknown
        | tonic::Code::DeadlineExceeded
        | tonic::Code::NotFound
        | tonic::Code::AlreadyExists
        | tonic::Code::PermissionDenied
        | tonic::Code::FailedPrecondition
        | tonic::Code::Aborted
        | tonic::Code::Unavailable
        | tonic::Code::DataLoss
        | tonic::Code::Unauthenticated => return None,
    };
    Some(Failure::new(code, "request", why).applied(Applied::No))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(status: Status) -> Option<Failure> {
        let response = wrap(status.into_http());
        Failure::from_status(&Status::from_header_map(response.headers()).unwrap())
    }

    #[test]
    fn a_failure_of_a_handler_passes_unchanged() {
        let failure = Failure::new(Code::WriteTimedOut, "write to \"a\"", "no majority")
            .applied(Applied::Unknown);
        assert_eq!(wrapped(failure.to_status()), Some(failure));
    }

    #[test]
    fn statuses_that_do_not_say_whether_a_handler_ran_pass_unchanged() {
        for code in [tonic::Code::Cancelled, tonic::Code::Unavailable, tonic::Code::NotFound] {
            assert_eq!(wrapped(Status::new(code, "x")), None);
        }
    }

    #[test]
    fn a_response_without_a_status_passes_unchanged() {
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert("x-test", "1".parse().unwrap());
        assert_eq!(wrap(response).headers()["x-test"], "1");
    }
}
