//! An S3 server for tests: `s3s-fs`, which keeps objects as files of a directory and checks signatures.
//!
//! It can be stopped and started again at the same address, lose the answers to requests that it has carried out, and
//! be too busy. What it lacks is added here: a write on condition that nothing is there happens at once, and neither a
//! folder nor what would be in a file is an object.

mod absent;
mod faults;

pub use faults::Faults;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder as Connections;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// Who may ask.
pub const ACCESS_KEY: &str = "test-access-key";
/// What proves it.
pub const SECRET_KEY: &str = "test-secret-key-1f9a";

/// A running or stopped server. It ends with the value.
pub struct S3Server {
    dir: PathBuf,
    address: SocketAddr,
    faults: Arc<Faults>,
    service: S3Service,
    serving: Option<JoinHandle<()>>,
    /// Taken when the server is dropped, and never before.
    runtime: Option<Runtime>,
}

impl S3Server {
    /// Starts a server of what is in a directory, at an address that nobody else has.
    ///
    /// # Errors
    /// When the directory cannot be used, or the system gives no threads or address.
    pub fn start(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let files = FileSystem::new(dir).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3-server")
            .enable_all()
            .build()?;
        let mut server = Self {
            dir: dir.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            faults: Arc::default(),
            service: service.build(),
            serving: None,
            runtime: Some(runtime),
        };
        server.start_again()?;
        Ok(server)
    }

    /// Makes a bucket.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn make_bucket(&self, name: &str) -> io::Result<()> {
        std::fs::create_dir_all(self.dir.join(name))
    }

    /// Its URL, as `s3.endpoint` takes it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What goes wrong with it.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// How many uploads in parts have begun and not ended.
    ///
    /// # Errors
    /// When its directory cannot be read.
    pub fn unfinished_uploads(&self) -> io::Result<usize> {
        let mut uploads = 0;
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            uploads += usize::from(name.to_string_lossy().starts_with(".upload-"));
        }
        Ok(uploads)
    }

    /// Breaks every connection, and takes no new ones.
    pub fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            // Its end is what was asked for.
            let _ = self.wait(async move { serving.await.is_err() });
        }
    }

    /// Serves again at the same address.
    ///
    /// # Errors
    /// When somebody else has the address meanwhile.
    pub fn start_again(&mut self) -> io::Result<()> {
        let address = self.address;
        let listener = self.wait(TcpListener::bind(address))??;
        self.address = listener.local_addr()?;
        let (service, faults) = (self.service.clone(), self.faults.clone());
        if let Some(runtime) = &self.runtime {
            self.serving = Some(runtime.spawn(serve(listener, service, (faults, self.dir.clone()))));
        }
        Ok(())
    }

    fn wait<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> io::Result<T> {
        let runtime = self.runtime.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        let (done, answer) = sync_channel(1);
        runtime.spawn(async move {
            // A caller that is gone wants no answer.
            let _ = done.send(future.await);
        });
        answer
            .recv()
            .map_err(|_| io::Error::other("the server's task ended"))
    }
}

impl std::fmt::Debug for S3Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3Server({})", self.endpoint())
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // Tests drop it where futures run, and must not wait there.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Serves connections, which end with it.
async fn serve(listener: TcpListener, service: S3Service, (faults, dir): (Arc<Faults>, PathBuf)) {
    let mut connections = JoinSet::new();
    let one_at_a_time = Arc::new(Mutex::new(()));
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (service, around) = (service.clone(), (faults.clone(), dir.clone()));
        connections.spawn(connection(stream, service, around, one_at_a_time.clone()));
    }
}

async fn connection(
    stream: TcpStream,
    service: S3Service,
    (faults, dir): (Arc<Faults>, PathBuf),
    turn: Arc<Mutex<()>>,
) {
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let (service, faults, turn) = (service.clone(), faults.clone(), turn.clone());
        let early = faults
            .before(request.method())
            .or_else(|| absent::answer(&dir, &request));
        async move {
            if let Some(answer) = early {
                return Ok(answer);
            }
            let request = request.map(s3s::Body::from);
            let lost = faults.loses(request.method());
            let conditional = request.headers().contains_key("if-none-match");
            let _turn = match conditional {
                true => Some(turn.lock().await),
                false => None,
            };
            let answer = service.call(request).await;
            match lost {
                true => Err(io::Error::other("the answer is lost")),
                false => answer.map_err(|error| io::Error::other(format!("{error:?}"))),
            }
        }
    });
    let server = Connections::new(TokioExecutor::new());
    // A connection that breaks is the client's to notice.
    let _ = server.serve_connection(TokioIo::new(stream), answer).await;
}
