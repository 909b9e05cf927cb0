//! A mesh of its own for each test.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tasker_client::Client;
use tasker_testing::TestDatabase;
use tempfile::TempDir;
use tokio::time::sleep;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    ledger::Ledger,
    ports,
    program::Program,
    service::Service,
    wait::until,
    worker::{WorkerTask, worker},
};

/// How long a mesh may take to be ready, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a mesh is made of.
#[derive(Debug, Default)]
pub struct Setup {
    replicas: usize,
    environment: Vec<(String, String)>,
    database_url: Option<String>,
}

impl Setup {
    /// So many replicas of each service; 1 unless said otherwise.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Sets a field of the configuration, such as `step_enqueuer.session_ttl`, in every process that
    /// reads it.
    #[must_use]
    pub fn with(self, field: &str, value: &str) -> Self {
        let variable = format!("TASKER_{}", field.replace('.', "__").to_uppercase());
        self.with_variable(&variable, value)
    }

    /// Sets a variable of the environment in every process.
    #[must_use]
    pub fn with_variable(mut self, variable: &str, value: &str) -> Self {
        self.environment.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// On this database, whose schema is there already. Default: a new one.
    #[must_use]
    pub fn database(mut self, url: &str) -> Self {
        self.database_url = Some(url.to_owned());
        self
    }

    /// Starts each service in processes of its own, and returns when all of them can do their work.
    ///
    /// # Panics
    /// Says what is missing.
    pub async fn start(self) -> Mesh {
        let (mut environment, database) = self.on_a_database().await;
        let logs = logs();
        let replicas = self.replicas.max(1);
        let addresses: BTreeMap<(Service, usize), String> = Service::ALL
            .into_iter()
            .flat_map(|service| (0..replicas).map(move |nth| (service, nth)))
            .map(|replica| (replica, format!("127.0.0.1:{}", ports::free())))
            .collect();
        for service in Service::ALL.into_iter().filter(|service| *service != Service::Gateway) {
            let of = addresses.iter().filter(|((other, _), _)| *other == service);
            let list: Vec<&str> = of.map(|(_, address)| address.as_str()).collect();
            let variable =
                format!("TASKER_MESH__{}", service.name().replace('-', "_").to_uppercase());
            environment.push((variable, list.join(",")));
        }
        let start = |((service, nth), address): (&(Service, usize), &String)| {
            let mut environment = environment.clone();
            environment.push((service.variable("listen"), address.clone()));
            let program = format!("tasker-{}", service.name());
            let name = format!("{}-{nth}", service.name());
            let program = Program::start(&program, &name, &[], environment, logs.path());
            ((*service, *nth), Replica { program, url: format!("http://{address}") })
        };
        let processes: BTreeMap<_, _> = addresses.iter().map(start).collect();
        let of_gateway = processes.iter().filter(|((service, _), _)| *service == Service::Gateway);
        let gateways = of_gateway.map(|(_, replica)| replica.url.clone()).collect();
        let mesh = Mesh { processes, standalone: None, gateways, database, logs };
        mesh.ready(replicas).await;
        mesh
    }

    /// Starts all services in one process, and returns when they can do their work.
    ///
    /// # Panics
    /// Says what is missing.
    pub async fn start_in_one_process(self) -> Mesh {
        let (mut environment, database) = self.on_a_database().await;
        let logs = logs();
        environment.push((Service::Gateway.variable("listen"), "127.0.0.1:0".to_owned()));
        let file = logs.path().join("ready");
        let flag = file.to_str().expect("our own folder has a plain name");
        let arguments = ["--ready-file", flag];
        let program =
            Program::start("tasker-standalone", "standalone", &arguments, environment, logs.path());
        let gateway = until("the standalone mesh is ready", PATIENCE, async || {
            assert!(program.ended().is_none(), "the standalone mesh has ended:\n{}", program.log());
            let text = fs::read_to_string(&file).unwrap_or_default();
            let url = text.trim();
            (!url.is_empty()).then(|| url.to_owned())
        })
        .await;
        let processes = BTreeMap::new();
        let mesh =
            Mesh { processes, standalone: Some(program), gateways: vec![gateway], database, logs };
        mesh.ready(1).await;
        mesh
    }

    async fn on_a_database(&self) -> (Vec<(String, String)>, Database) {
        let database = match &self.database_url {
            Some(url) => Database::Given(url.clone()),
            None => Database::Own(TestDatabase::fresh().await),
        };
        let mut environment = self.environment.clone();
        environment.push(("TASKER_DATABASE__URL".to_owned(), database.url().to_owned()));
        (environment, database)
    }
}

#[derive(Debug)]
enum Database {
    Own(TestDatabase),
    Given(String),
}

impl Database {
    fn url(&self) -> &str {
        match self {
            Self::Own(database) => database.url(),
            Self::Given(url) => url,
        }
    }
}

/// A folder that goes with its mesh.
fn logs() -> TempDir {
    tempfile::tempdir().expect("there is room for logs")
}

/// A running mesh. Its processes are killed when it is dropped.
#[derive(Debug)]
pub struct Mesh {
    // In this order they end: processes before their database and their logs.
    processes: BTreeMap<(Service, usize), Replica>,
    standalone: Option<Program>,
    gateways: Vec<String>,
    database: Database,
    logs: TempDir,
}

#[derive(Debug)]
struct Replica {
    program: Program,
    url: String,
}

impl Mesh {
    /// What is to be started.
    pub fn setup() -> Setup {
        Setup::default()
    }

    /// The address of the first gateway.
    pub fn gateway(&self) -> &str {
        &self.gateways[0]
    }

    /// The addresses of all replicas of the gateway.
    pub fn gateways(&self) -> &[String] {
        &self.gateways
    }

    /// A client of the first gateway.
    ///
    /// # Panics
    /// Never: the address is one.
    pub fn client(&self) -> Client {
        Client::connect_lazy(self.gateway()).expect("our own address is one")
    }

    /// A connection to the first gateway, for the generated clients.
    ///
    /// # Panics
    /// The gateway does not answer.
    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.gateway().to_owned());
        let endpoint = endpoint.expect("our own address is one");
        endpoint.connect().await.expect("the gateway answers")
    }

    /// A worker in this process, at the first gateway.
    pub fn worker(&self, namespaces: &[&str], registry: &tasker_worker::Registry) -> WorkerTask {
        worker(self.gateway(), namespaces, registry)
    }

    /// A look into the database.
    ///
    /// # Panics
    /// The database does not answer.
    pub async fn ledger(&self) -> Ledger {
        Ledger::open(self.database_url()).await
    }

    /// Where its database is.
    pub fn database_url(&self) -> &str {
        self.database.url()
    }

    /// Where logs are written; other programs of the test may write theirs there.
    pub fn logs(&self) -> &Path {
        self.logs.path()
    }

    /// What the replicas of a service have logged so far.
    pub fn log_of(&self, service: Service) -> String {
        let of = self.processes.iter().filter(|((other, _), _)| *other == service);
        of.map(|(_, replica)| replica.program.log()).collect()
    }

    /// What each program has logged so far, by name.
    pub fn all_logs(&self) -> Vec<(&str, String)> {
        self.programs().map(|(name, program)| (name, program.log())).collect()
    }

    /// Kills a process at once, and returns when it is gone.
    ///
    /// # Panics
    /// There is no such process.
    pub fn kill(&self, service: Service, replica: usize) {
        self.replica(service, replica).program.kill();
    }

    /// Starts a killed process again at the same address, and returns when it can do its work.
    ///
    /// # Panics
    /// It still runs, or is not ready in time.
    pub async fn restart(&self, service: Service, replica: usize) {
        let replica = self.replica(service, replica);
        replica.program.start_again();
        serving(service, replica).await;
    }

    /// Asks every process to end, and waits until each has ended well.
    ///
    /// # Panics
    /// One does not end in time, or fails.
    pub async fn stop(&self) {
        for (_, program) in self.programs() {
            let ended = program.stop().await;
            assert!(ended.success(), "{program:?} has ended with {ended}");
        }
    }

    /// The services' processes, by name; one process of all is `standalone`.
    pub fn process_ids(&self) -> Vec<(String, u32)> {
        let of = |(name, program): (&str, &Program)| (name.to_owned(), program.process_id());
        self.programs().map(of).collect()
    }

    fn programs<'a>(&'a self) -> impl Iterator<Item = (&'a str, &'a Program)> {
        let of = |((service, _), replica): (&'a (Service, usize), &'a Replica)| {
            (service.name(), &replica.program)
        };
        let services = self.processes.iter().map(of);
        services.chain(self.standalone.iter().map(|program| ("standalone", program)))
    }

    fn replica(&self, service: Service, replica: usize) -> &Replica {
        let found = self.processes.get(&(service, replica));
        found.unwrap_or_else(|| panic!("there is no process {} {replica}", service.name()))
    }

    /// Returns when every process serves, and every gateway sees them all.
    async fn ready(&self, replicas: usize) {
        for ((service, _), replica) in &self.processes {
            serving(*service, replica).await;
        }
        for gateway in &self.gateways {
            let client = Client::connect_lazy(gateway).expect("our own address is one");
            until("every gateway sees the whole mesh", PATIENCE, async || {
                let health = client.health().await.ok()?;
                let seen = |it: &tasker_client::v1::ServiceHealth| {
                    it.service == "gateway" || usize::try_from(it.replicas) == Ok(replicas)
                };
                (health.ready && health.services.iter().all(seen)).then_some(())
            })
            .await;
        }
    }
}

/// Returns when the replica says that it serves.
async fn serving(service: Service, replica: &Replica) {
    let deadline = Instant::now() + PATIENCE;
    while !says_that_it_serves(&replica.url).await {
        let ended = replica.program.ended();
        let log = || replica.program.log();
        assert!(ended.is_none(), "{} has ended with {ended:?}:\n{}", service.name(), log());
        assert!(Instant::now() < deadline, "{} is not ready:\n{}", service.name(), log());
        // It does not listen yet: nobody can tell us when it will.
        sleep(Duration::from_millis(20)).await;
    }
}

/// Follows its health until it serves. False if it cannot be asked.
async fn says_that_it_serves(url: &str) -> bool {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("our own address is one");
    let Ok(channel) = endpoint.connect().await else { return false };
    let watched = HealthClient::new(channel).watch(HealthCheckRequest::default()).await;
    let Ok(watched) = watched else { return false };
    let mut statuses = watched.into_inner();
    while let Ok(Ok(Some(status))) = tokio::time::timeout(PATIENCE, statuses.message()).await {
        if status.status() == ServingStatus::Serving {
            return true;
        }
    }
    false
}
