//! One connection to a relay: dialled, greeted, encrypted, authenticated.

use super::{
    error::{Class, SendError, code},
    offers::Offers,
    reply::{self, Phase, SETUP_WAIT},
    settings::{Settings, Tls},
    wire::WireHandle,
};
use lettre::transport::smtp::{
    self,
    authentication::Credentials,
    client::AsyncSmtpConnection,
    commands::{Auth, Ehlo, Rset, Starttls},
    extension::ClientId,
    response::Response,
};
use metrics::Gauge;
use std::{error::Error as _, io, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};

pub(super) struct Connection {
    pub(super) smtp: AsyncSmtpConnection,
    pub(super) wire: WireHandle,
    pub(super) offers: Offers,
    /// Mails handed over or refused on it.
    pub(super) mails: u32,
    _open: OpenCount,
}

/// Counts the connection in the gauge for as long as it lives.
struct OpenCount(Gauge);

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Connection {
    /// Connects up to the point where MAIL may follow. Each phase has its own limit, all end at `deadline`.
    pub(super) async fn open(
        settings: &Settings,
        open: Gauge,
        deadline: Instant,
    ) -> Result<Self, SendError> {
        let limit = settings.timeouts.connect;
        let tcp = within(
            Phase::Connect,
            limit,
            deadline,
            dial(
                &settings.host,
                settings.port,
                limit.min(deadline.saturating_duration_since(Instant::now())),
            ),
        )
        .await?
        .map_err(|error| connect_failed(&error.kind().to_string()).caused_by(error))?;
        open.increment(1.0);
        let open = OpenCount(open);
        let peer = tcp
            .peer_addr()
            .map_err(|error| connect_failed("no peer").caused_by(error))?;
        let wire = WireHandle::new(tcp, peer);
        if let Tls::Implicit(client) = &settings.tls {
            within(Phase::Tls, limit, deadline, wire.start_tls_at_once(client))
                .await?
                .map_err(tls_failed)?;
        }
        let smtp =
            AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), &settings.helo);
        let smtp = within(Phase::Connect, limit, deadline, smtp)
            .await?
            .map_err(|error| failure(Phase::Connect, &wire, error))?;
        let offers = wire.with_heard(Offers::parse);
        let mut connection = Self {
            smtp,
            wire,
            offers,
            mails: 0,
            _open: open,
        };
        if let Tls::Starttls(client) = &settings.tls {
            within(
                Phase::Tls,
                limit,
                deadline,
                connection.starttls(client, &settings.helo),
            )
            .await??;
        }
        if let Some(credentials) = &settings.credentials {
            within(
                Phase::Auth,
                settings.timeouts.command,
                deadline,
                connection.auth(credentials),
            )
            .await??;
        }
        Ok(connection)
    }

    /// RFC 3207; what was offered before it is forgotten (4.2).
    async fn starttls(
        &mut self,
        client: &super::tls::Client,
        helo: &ClientId,
    ) -> Result<(), SendError> {
        if !self.offers.starttls {
            let text = "the relay does not offer STARTTLS, which is required unless tls is \"none\" or \"implicit\"";
            return Err(SendError::new(
                Class::RetryAfter(SETUP_WAIT),
                code::TLS_FAILED,
                text,
            ));
        }
        self.command(Phase::Tls, Starttls).await?;
        self.wire.start_tls(client).await.map_err(tls_failed)?;
        self.command(Phase::Connect, Ehlo::new(helo.clone()))
            .await?;
        self.offers = self.wire.with_heard(Offers::parse);
        Ok(())
    }

    /// PLAIN or LOGIN (RFC 4954).
    async fn auth(&mut self, credentials: &Credentials) -> Result<(), SendError> {
        let refused =
            |text: &str| SendError::new(Class::RetryAfter(SETUP_WAIT), code::AUTH_FAILED, text);
        let Some(mechanism) = self.offers.auth else {
            return Err(refused(
                "the relay offers neither AUTH PLAIN nor AUTH LOGIN",
            ));
        };
        let odd = |_| refused("the relay's AUTH challenge is not understood");
        let mut answer = Auth::new(mechanism, credentials.clone(), None).map_err(odd)?;
        // LOGIN asks twice.
        for _ in 0..3 {
            let reply = self.command(Phase::Auth, answer).await?;
            if !reply.has_code(334) {
                return Ok(());
            }
            answer =
                Auth::new_from_response(mechanism, credentials.clone(), &reply).map_err(odd)?;
        }
        Err(refused("the relay's AUTH challenges do not end"))
    }

    /// Ends a refused transaction, so that the connection can take the next mail.
    pub(super) async fn reset(&mut self, limit: Duration) -> Result<(), SendError> {
        within(
            Phase::Reset,
            limit,
            Instant::now() + limit,
            self.command(Phase::Reset, Rset),
        )
        .await??;
        Ok(())
    }

    /// Says QUIT; the reply is awaited no longer than the limit, and does not matter.
    pub(super) async fn quit(mut self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.smtp.quit()).await;
    }

    pub(super) async fn command<C: std::fmt::Display>(
        &mut self,
        phase: Phase,
        command: C,
    ) -> Result<Response, SendError> {
        self.smtp
            .command(command)
            .await
            .map_err(|error| failure(phase, &self.wire, error))
    }
}

/// Runs one phase under its limit and the task's deadline.
pub(super) async fn within<T>(
    phase: Phase,
    limit: Duration,
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Result<T, SendError> {
    timeout_at(deadline.min(Instant::now() + limit), work)
        .await
        .map_err(|_| {
            SendError::new(
                Class::Retry,
                code::TIMEOUT,
                format!("the relay took too long over {}", phase.name()),
            )
        })
}

/// Tries every address of the name; each gets its share of the time, so that a dead one leaves some to the rest.
async fn dial(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let end = Instant::now() + limit;
    let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for (tried, address) in addresses.iter().enumerate() {
        let left = end.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                // Without it every mail waits for the relay's delayed ACK.
                tcp.set_nodelay(true)?;
                return Ok(tcp);
            }
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failed)
}

fn connect_failed(why: &str) -> SendError {
    SendError::new(
        Class::Retry,
        code::CONNECT_FAILED,
        format!("could not connect to the relay: {why}"),
    )
}

/// A certificate that does not fit is no passing trouble, a broken connection is.
fn tls_failed(error: io::Error) -> SendError {
    let certificate = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (class, text) = match certificate {
        Some(rustls::Error::InvalidCertificate(_)) => (
            Class::RetryAfter(SETUP_WAIT),
            "the relay's certificate is not trusted or not for its configured name",
        ),
        _ => (Class::Retry, "the TLS handshake with the relay failed"),
    };
    SendError::new(class, code::TLS_FAILED, text).caused_by(error)
}

/// What lettre's error means in this phase.
pub(super) fn failure(phase: Phase, wire: &WireHandle, error: smtp::Error) -> SendError {
    if let Some(status) = error.status() {
        // The source is the relay's text unmasked, so it is not kept.
        let text = error.source().map(ToString::to_string).unwrap_or_default();
        return reply::classify(phase, status.into(), &text);
    }
    let lost = if phase == Phase::Connect {
        connect_failed("the relay hung up")
    } else {
        let text = format!("the connection was lost during {}", phase.name());
        SendError::new(Class::Retry, code::CONNECTION_LOST, text)
    };
    if wire.has_ended() {
        return lost;
    }
    if let Some((code, text)) = wire.with_heard(uncommon_reply) {
        return reply::classify(phase, code, &text);
    }
    if error.is_response() || error.is_client() {
        let text = format!("the relay's reply to {} is not understood", phase.name());
        return SendError::new(Class::Retry, code::PROTOCOL_ERROR, text);
    }
    lost.caused_by(error)
}

/// A negative reply whose second digit is above 5, such as 571: some relays use them, lettre refuses them.
fn uncommon_reply(heard: &[u8]) -> Option<(u16, String)> {
    let text = String::from_utf8_lossy(heard);
    text.lines().find_map(|line| {
        let (code, words) = line.split_at_checked(3)?;
        let uncommon = matches!(code.as_bytes(), [b'4' | b'5', b'6'..=b'9', b'0'..=b'9']);
        let code = code.parse().ok().filter(|_| uncommon)?;
        Some((code, words.trim_start_matches([' ', '-']).to_owned()))
    })
}
