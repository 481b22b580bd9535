//! The program beside the module: an HTTP service for usage and limits, an archive in SQL, a live page, and a few
//! commands for the terminal. It speaks to the module by its commands only, through `redis-meter-client`, and keeps no
//! state of its own that matters.

pub mod archive;
pub mod archiving;
pub mod cli;
pub mod config;
pub mod connection;
pub mod gateway;
pub mod http;
pub mod log;
pub mod meters;
pub mod name;
mod patience;
mod say;
pub mod serve;
mod stored;
pub mod terminal;
pub mod token;
pub mod usage;
