//! Code generated from `proto/proto/kv/**`; the comments there are the documentation.
#![allow(missing_docs, clippy::all, rustdoc::all)]

pub mod v1 {
    //! `kv.v1`: what clients say.
    tonic::include_proto!("kv.v1");
}

pub mod log {
    pub mod v1 {
        //! `kv.log.v1`: what is replicated and stored.
        tonic::include_proto!("kv.log.v1");
    }
}

pub mod peer {
    pub mod v1 {
        //! `kv.peer.v1`: what nodes say to each other.
        tonic::include_proto!("kv.peer.v1");
    }
}
