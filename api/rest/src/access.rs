//! Who may do what: roles, and what each request needs.
//!
//! What is not known here needs the strongest role, so that a route that somebody adds is closed until it is listed.

use actix_web::http::Method;

/// What a caller may do; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Read.
    Viewer,
    /// Take savepoints and checkpoints, stop and cancel jobs.
    Operator,
    /// Run programs, which is to run code; delete savepoints; end the cluster.
    Admin,
}

/// What an option may switch off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// `web.submit.enable`.
    Submit,
    /// `web.cancel.enable`.
    Cancel,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator, Self::Admin]
            .into_iter()
            .find(|role| role.name() == name)
    }
}

/// The role that a request needs, and what must not be switched off for it. The path has no escapes, so that it is the one
/// by which the request is routed.
pub(crate) fn needed(method: &Method, path: &str) -> (Role, Option<Switch>) {
    let path = path.strip_prefix("/v1").unwrap_or(path);
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match (method.as_str(), segments.as_slice()) {
        // Also by GET it runs the program.
        (_, ["jars", _, "plan"]) => (Role::Admin, Some(Switch::Submit)),
        ("GET" | "HEAD", _) => (Role::Viewer, None),
        (_, ["jars", ..]) => (Role::Admin, Some(Switch::Submit)),
        ("PATCH", ["jobs", _]) | ("POST", ["applications", _, "cancel"]) => {
            (Role::Operator, Some(Switch::Cancel))
        }
        ("PUT", ["jobs", _, "resource-requirements"]) | ("PATCH", ["jobs", _, "clientHeartbeat"]) => {
            (Role::Operator, None)
        }
        ("POST", ["jobs", _, "stop" | "savepoints" | "checkpoints"]) => (Role::Operator, None),
        _ => (Role::Admin, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, for every operation that is served: nobody finds out by accident what a new one needs.
    const OPERATORS: [&str; 7] = [
        "PATCH /jobs/{jobid}",
        "PATCH /jobs/{jobid}/clientHeartbeat",
        "POST /applications/{applicationid}/cancel",
        "POST /jobs/{jobid}/checkpoints",
        "POST /jobs/{jobid}/savepoints",
        "POST /jobs/{jobid}/stop",
        "PUT /jobs/{jobid}/resource-requirements",
    ];
    const ADMINS: [&str; 9] = [
        "DELETE /cluster",
        "DELETE /jars/{jarid}",
        "GET /jars/{jarid}/plan",
        "POST /jars/upload",
        "POST /jars/{jarid}/plan",
        "POST /jars/{jarid}/run",
        "POST /jars/{jarid}/run-application",
        "DELETE /datasets/{datasetid}",
        "POST /savepoint-disposal",
    ];

    #[test]
    fn each_operation_needs_the_least_role_that_is_meant() {
        let served = include_str!("../served.tsv").lines();
        let served = served.filter(|line| !line.starts_with('#') && !line.is_empty());
        let mut changing = 0;
        for line in served {
            let (method, rest) = line.split_once('\t').unwrap();
            let path = rest.split('\t').next().unwrap();
            let name = format!("{method} {path}");
            let wanted = match () {
                () if OPERATORS.contains(&name.as_str()) => Role::Operator,
                () if ADMINS.contains(&name.as_str()) => Role::Admin,
                () => Role::Viewer,
            };
            changing += usize::from(wanted != Role::Viewer);
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(needed(&method, path).0, wanted, "{name}");
            assert_eq!(needed(&method, &format!("/v1{path}")).0, wanted, "{name}");
            assert!(
                wanted != Role::Viewer || method == Method::GET,
                "{name} changes something"
            );
        }
        assert_eq!(changing, OPERATORS.len() + ADMINS.len(), "all of them are served");
    }

    #[test]
    fn what_is_not_known_needs_the_strongest_role() {
        assert_eq!(
            needed(&Method::GET, "/jars/x/plan").0,
            Role::Admin,
            "it runs code"
        );
        assert_eq!(needed(&Method::GET, "/v1/jars/x/plan").0, Role::Admin);
        for path in [
            "/",
            "/jobs",
            "/jobs/x/rescaling",
            "/new",
            "//jobs/x/stop",
            "/v2/jobs/x/stop",
        ] {
            for method in [
                Method::POST,
                Method::PUT,
                Method::DELETE,
                Method::PATCH,
                Method::TRACE,
            ] {
                assert_eq!(needed(&method, path).0, Role::Admin, "{method} {path}");
            }
        }
    }

    #[test]
    fn roles_have_names() {
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            assert_eq!(Role::parse(role.name()), Some(role));
        }
        assert!(
            Role::parse("root").is_none() && Role::Viewer < Role::Operator && Role::Operator < Role::Admin
        );
    }
}
