//! Drives the inbox as its clients do: SMTP byte by byte over TCP and TLS, and HTTP.
//! Each test has an inbox of its own on free ports, so all run side by side.

#[cfg(test)]
mod inbox {
    mod client;
    mod control;
    mod faults;
    mod http;
    mod limits;
    mod own;
    mod protocol;
    mod rest;
    mod tls;
}
