//! The whole gateway on a port, between a bare HTTP/2 client and a service that answers as it is told.

mod browser;
mod calls;
mod fake;
mod health;
mod limits;
mod mesh;
mod streams;
