//! The table: which service of the mesh serves a method, read from the descriptors.

use std::collections::{BTreeSet, HashMap};

use prost_reflect::{
    DescriptorError, DescriptorPool, ExtensionDescriptor, MethodDescriptor, Value,
};

/// The one package that clients may call: what stands between services stays between them.
const PUBLIC_PACKAGE: &str = "tasker.v1";
const OWNER: &str = "tasker.v1.owner";
const REQUIRED_PERMISSION: &str = "tasker.v1.required_permission";

/// Where a method is served, and what its caller must be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The service of the mesh that serves it, for example `task-request`.
    pub owner: String,
    /// For example `tasks:create`; empty if anyone may call.
    pub permission: String,
    /// Whether the client may send any number of messages.
    pub client_streaming: bool,
    /// Whether the answer may be any number of messages.
    pub server_streaming: bool,
}

/// All public methods, by path: `/tasker.v1.TaskService/CreateTask`.
#[derive(Debug)]
pub struct Routes {
    by_path: HashMap<String, Route>,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// The descriptors are not what this build of the gateway can read.
    #[error("the descriptors of the contract cannot be read")]
    Descriptors(#[from] DescriptorError),
    /// The proto files do not declare an option that routes are read from.
    #[error("the contract does not declare the option {0}")]
    NoOption(&'static str),
    /// A service that nobody serves.
    #[error("the service {0} names no owner in the contract")]
    NoOwner(String),
}

impl Routes {
    /// Reads the table from a set of compiled proto files.
    ///
    /// # Errors
    /// If they cannot be read, or a public service does not say who serves it.
    pub fn read(descriptors: &[u8]) -> Result<Self, RoutesError> {
        let pool = DescriptorPool::decode(descriptors)?;
        let owner = option(&pool, OWNER)?;
        let permission = option(&pool, REQUIRED_PERMISSION)?;
        let mut by_path = HashMap::new();
        for service in pool.services().filter(|it| it.package_name() == PUBLIC_PACKAGE) {
            let owner = text(&service.options().get_extension(&owner));
            if owner.is_empty() {
                return Err(RoutesError::NoOwner(service.full_name().to_owned()));
            }
            by_path.extend(service.methods().map(|method| {
                let route = Route {
                    owner: owner.clone(),
                    permission: text(&method.options().get_extension(&permission)),
                    client_streaming: method.is_client_streaming(),
                    server_streaming: method.is_server_streaming(),
                };
                (path(&method), route)
            }));
        }
        Ok(Self { by_path })
    }

    /// The route of `/package.Service/Method`, if it is public.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&Route> {
        self.by_path.get(path)
    }

    /// Every service that some method belongs to, in order of name.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<&str> {
        self.by_path.values().map(|route| route.owner.as_str()).collect()
    }
}

fn option(pool: &DescriptorPool, name: &'static str) -> Result<ExtensionDescriptor, RoutesError> {
    pool.get_extension_by_name(name).ok_or(RoutesError::NoOption(name))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Routes {
        Routes::read(tasker_api::DESCRIPTORS).unwrap()
    }

    #[test]
    fn a_method_leads_to_its_owner() {
        let create = Route {
            owner: "task-request".to_owned(),
            permission: "tasks:create".to_owned(),
            client_streaming: false,
            server_streaming: false,
        };
        assert_eq!(table().find("/tasker.v1.TaskService/CreateTask"), Some(&create));
    }

    #[test]
    fn a_stream_is_known_as_one() {
        let table = table();
        let streams = |path| {
            let route = table.find(path).unwrap();
            (route.client_streaming, route.server_streaming)
        };
        assert_eq!(streams("/tasker.v1.WorkerService/Work"), (true, true));
        assert_eq!(streams("/tasker.v1.TaskService/WatchTask"), (false, true));
        assert_eq!(streams("/tasker.v1.TaskService/GetTask"), (false, false));
    }

    #[test]
    fn every_public_method_says_who_serves_it_and_who_may_call_it() {
        let pool = DescriptorPool::decode(tasker_api::DESCRIPTORS).unwrap();
        let table = table();
        let public = pool.services().filter(|it| it.package_name() == PUBLIC_PACKAGE);
        for method in public.flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let route = table.find(&path(&method)).expect("a route");
            assert!(!route.owner.is_empty(), "{} has no owner", method.full_name());
            // How the mesh is may be asked by anyone: load balancers have no key.
            let open = method.parent_service().name() == "HealthService";
            assert_eq!(route.permission.is_empty(), open, "permission of {}", method.full_name());
        }
    }

    #[test]
    fn what_services_say_to_each_other_is_not_public() {
        let pool = DescriptorPool::decode(tasker_api::DESCRIPTORS).unwrap();
        let table = table();
        let mesh = pool.services().filter(|it| it.package_name() == "tasker.mesh.v1");
        let methods: Vec<_> =
            mesh.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
        assert!(!methods.is_empty());
        assert!(methods.iter().all(|method| table.find(&path(method)).is_none()));
    }

    #[test]
    fn every_owner_is_one_of_the_five() {
        let five = ["finalizer", "gateway", "result-processor", "step-enqueuer", "task-request"];
        assert!(table().owners().iter().all(|owner| five.contains(owner)));
    }
}
