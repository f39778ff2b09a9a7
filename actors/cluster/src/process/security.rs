//! How a process speaks with others: by TLS, both sides with certificates, or in the clear.
//!
//! Processes of the cluster have files. A process of a job is given a certificate that names its job, made by the TaskManager that starts it, and
//! for the exchange of records another one, made by its JobMaster: keys of the cluster enter no process that runs a job's code.

use hurtig_core::config::{ConfigOption, Configuration, options};
use hurtig_core::ids::{JobId, TaskManagerId};
use hurtig_network::{Bind, tcp};
use hurtig_rpc::{Acceptor, Dialer, TcpAcceptor, TcpDialer, Tls, TlsFiles, TlsGiven, front_door, job_name};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::fmt;
use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The machine's own interface: who is not told otherwise listens there.
pub(super) const HOST: &str = "127.0.0.1";
/// Who may read a file that a key is in: its owner and its group.
const OTHERS: u32 = 0o027;
/// The name of all workers of a job in their exchange.
const EXCHANGE: &str = "exchange.hurtig";

/// How a process speaks with others. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Security(Option<Arc<Certificates>>);

#[derive(Debug)]
struct Certificates {
    tls: Tls,
    jobs: Option<Jobs>,
}

/// What a TaskManager makes certificates of jobs with.
#[derive(Debug)]
struct Jobs {
    authority: Authority,
    /// Whom its processes believe.
    authorities: String,
    server_name: Option<String>,
}

impl Security {
    /// That of a jobmanager, as configured. Blocks.
    ///
    /// # Errors
    /// When TLS is switched on, and files are missing, unreadable or do not go together.
    pub fn of_jobmanager(config: &Configuration) -> Result<Self, String> {
        Self::read(config, false)
    }

    /// That of a TaskManager, which makes certificates for jobs. Blocks.
    ///
    /// # Errors
    /// As [`Self::of_jobmanager`].
    pub fn of_task_manager(config: &Configuration) -> Result<Self, String> {
        Self::read(config, true)
    }

    /// That of a process of a job.
    pub(super) fn of_job(given: Option<TlsGiven>) -> Result<Self, String> {
        let Some(given) = given else { return Ok(Self(None)) };
        let tls = Tls::given(given)
            .map_err(|error| format!("the certificate of this process: {}", chain(&error)))?;
        Ok(Self(Some(Arc::new(Certificates { tls, jobs: None }))))
    }

    fn read(config: &Configuration, starts_jobs: bool) -> Result<Self, String> {
        if !config.get(&options::SSL_INTERNAL) {
            return Ok(Self(None));
        }
        let file = |option: &ConfigOption<Option<String>>| {
            config.get(option).map(PathBuf::from).ok_or_else(|| {
                let (on, missing) = (options::SSL_INTERNAL.key(), option.key());
                format!("`{on}` needs `{missing}`")
            })
        };
        let files = TlsFiles {
            certificates: file(&options::SSL_INTERNAL_CERTIFICATE)?,
            key: private(file(&options::SSL_INTERNAL_KEY)?)?,
            authorities: file(&options::SSL_INTERNAL_AUTHORITIES)?,
            job_authority: Some(file(&options::SSL_JOB_AUTHORITY_CERTIFICATE)?),
            server_name: config.get(&options::SSL_INTERNAL_SERVER_NAME),
        };
        let jobs = match starts_jobs {
            true => Some(Jobs::read(
                &files,
                &private(file(&options::SSL_JOB_AUTHORITY_KEY)?)?,
            )?),
            false => None,
        };
        let tls =
            Tls::load(files).map_err(|error| format!("`security.ssl.internal.*`: {}", chain(&error)))?;
        Ok(Self(Some(Arc::new(Certificates { tls, jobs }))))
    }

    /// Whether it is TLS.
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// How others are reached.
    pub(super) fn dialer(&self) -> Arc<dyn Dialer> {
        match &self.0 {
            Some(certificates) => Arc::new(certificates.tls.dialer()),
            None => Arc::new(TcpDialer),
        }
    }

    /// Serves on a listener.
    pub(super) fn serve(&self, rpc: &hurtig_rpc::Rpc, listener: TcpAcceptor) {
        match &self.0 {
            Some(certificates) => rpc.serve(certificates.tls.acceptor(listener)),
            None => rpc.serve(listener),
        };
    }

    /// Where records of other workers come in.
    pub(super) fn bind(&self, address: String) -> Bind {
        let Some(certificates) = &self.0 else {
            return tcp(address);
        };
        let tls = certificates.tls.clone();
        Box::pin(async move {
            let listener = TcpAcceptor::bind(&address).await?;
            let bound = listener.local_addr()?.to_string();
            Ok((Box::new(tls.acceptor(listener)) as Box<dyn Acceptor>, bound))
        })
    }

    /// The certificate of a process of a job; `None`: it speaks in the clear.
    pub(super) fn certificate_of(
        &self,
        job: JobId,
        epoch: NonZeroU64,
    ) -> Result<Option<Box<TlsGiven>>, String> {
        let jobs = self
            .0
            .as_ref()
            .and_then(|certificates| certificates.jobs.as_ref());
        jobs.map(|jobs| jobs.certificate_of(job, epoch).map(Box::new))
            .transpose()
    }
}

impl Jobs {
    fn read(files: &TlsFiles, key: &Path) -> Result<Self, String> {
        let certificate = files.job_authority.as_deref().unwrap_or(Path::new(""));
        // It looks whether the two go together.
        front_door(certificate, key, None).map_err(|error| {
            let place = certificate.display();
            format!("the authority of jobs, {place}: {}", chain(&error))
        })?;
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let authority = Authority::of_pem(read(certificate)?, &read(key)?);
        Ok(Self {
            authorities: [read(&files.authorities)?, read(certificate)?].join("\n"),
            authority: authority.map_err(|error| format!("{}: {error}", certificate.display()))?,
            server_name: files.server_name.clone(),
        })
    }

    fn certificate_of(&self, job: JobId, epoch: NonZeroU64) -> Result<TlsGiven, String> {
        let host = self.server_name.as_deref().unwrap_or(HOST);
        let names = vec![job_name(job), host.to_owned()];
        let issued = self.authority.issue(names, &format!("job {job}, epoch {epoch}"));
        let (certificates, key) = issued.map_err(|error| format!("no certificate for job {job}: {error}"))?;
        Ok(TlsGiven {
            certificates,
            key,
            authorities: self.authorities.clone(),
            server_name: self.server_name.clone(),
        })
    }
}

/// Who signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl fmt::Debug for Authority {
    /// Without its key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    fn of_pem(certificate: String, key: &str) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(key)?)?;
        Ok(Self { issuer, certificate })
    }

    /// One that nobody knows yet.
    fn new(name: &str) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { issuer, certificate })
    }

    /// A certificate and its key. It is good for as long as its owner lives: nobody else has the key.
    fn issue(&self, names: Vec<String>, subject: &str) -> Result<(String, String), rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, subject);
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// Who signs for the workers of one job, and for nobody else: its JobMaster has it, and it ends with that.
#[derive(Debug)]
pub(crate) struct ExchangeAuthority(Authority);

impl ExchangeAuthority {
    /// That of a job; `None`: records travel in the clear, as messages do.
    pub(super) fn of(job: JobId, security: &Security) -> Result<Option<Arc<Self>>, String> {
        if !security.is_on() {
            return Ok(None);
        }
        let authority = Authority::new(&format!("exchange of job {job}"));
        let authority = authority.map_err(|error| format!("no authority for the exchange: {error}"))?;
        Ok(Some(Arc::new(Self(authority))))
    }

    /// What a worker exchanges records with.
    pub(crate) fn certificate_of(&self, worker: TaskManagerId) -> Result<TlsGiven, String> {
        let issued = self
            .0
            .issue(vec![EXCHANGE.to_owned()], &format!("worker {worker}"));
        let (certificates, key) =
            issued.map_err(|error| format!("no certificate for worker {worker}: {error}"))?;
        Ok(TlsGiven {
            certificates,
            key,
            authorities: self.0.certificate.clone(),
            server_name: Some(EXCHANGE.to_owned()),
        })
    }
}

/// A file with a key, which nobody else may read.
fn private(path: PathBuf) -> Result<PathBuf, String> {
    let facts = path
        .metadata()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    match facts.permissions().mode() & OTHERS {
        0 => Ok(path),
        _ => Err(format!(
            "the private key {0} can be read by others, or changed by its group: `chmod 600 {0}`",
            path.display()
        )),
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    /// The files of a cluster; what each option says of them.
    fn files() -> (TempDir, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        };
        let [cluster, jobs] = ["cluster", "jobs"].map(|name| Authority::new(name).unwrap());
        let (own, key) = cluster.issue(vec![HOST.to_owned()], "jobmanager").unwrap();
        put("authorities", &cluster.certificate);
        put("certificate", &own);
        put("key", &key);
        put("job-authority.certificate", &jobs.certificate);
        put("job-authority.key", &jobs.issuer.key().serialize_pem());
        let mut settings = vec!["security.ssl.internal.enabled=true".to_owned()];
        for name in [
            "authorities",
            "certificate",
            "key",
            "job-authority.certificate",
            "job-authority.key",
        ] {
            let path = dir.path().join(name);
            settings.push(format!("security.ssl.internal.{name}={}", path.display()));
        }
        (dir, settings)
    }

    fn read(settings: &[String]) -> Result<Security, String> {
        let config = Configuration::builder()
            .definitions(settings.iter().map(String::as_str))
            .build();
        Security::of_task_manager(&config.unwrap())
    }

    #[test]
    fn nothing_is_read_where_tls_is_off_and_everything_is_needed_where_it_is_on() {
        let (_dir, settings) = files();
        assert!(!read(&settings[1..]).unwrap().is_on());
        let on = read(&settings).unwrap();
        let job = JobId::from_u128(7);
        assert!(on.is_on() && on.certificate_of(job, NonZeroU64::MIN).unwrap().is_some());
        for missing in 1..settings.len() {
            let mut fewer = settings.clone();
            let left_out = fewer.remove(missing);
            let key = left_out.split_once('=').unwrap().0.to_owned();
            let refused = read(&fewer).unwrap_err();
            assert!(refused.contains(&format!("needs `{key}`")), "{refused}");
        }
    }

    #[test]
    fn keys_that_others_can_read_or_that_belong_to_others_are_refused() {
        let (dir, settings) = files();
        for name in ["key", "job-authority.key"] {
            let path = dir.path().join(name);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            let refused = read(&settings).unwrap_err();
            assert!(
                refused.contains("chmod 600") && refused.contains(name),
                "{refused}"
            );
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        }
        // The key of somebody else.
        let (own, other) = (dir.path().join("key"), dir.path().join("job-authority.key"));
        let kept = fs::read(&own).unwrap();
        fs::copy(&other, &own).unwrap();
        let refused = read(&settings).unwrap_err();
        assert!(refused.contains("security.ssl.internal"), "{refused}");
        fs::write(&own, kept).unwrap();
        fs::copy(&own, &other).unwrap();
        let refused = read(&settings).unwrap_err();
        assert!(refused.contains("authority of jobs"), "{refused}");
        fs::write(dir.path().join("authorities"), "nothing").unwrap();
        assert!(read(&settings).is_err());
    }

    #[test]
    fn no_key_is_printed() {
        let (_dir, settings) = files();
        let security = read(&settings).unwrap();
        let given = security
            .certificate_of(JobId::from_u128(7), NonZeroU64::MIN)
            .unwrap();
        for printed in [format!("{security:?}"), format!("{given:?}")] {
            assert!(!printed.contains("PRIVATE"), "{printed}");
        }
    }
}
