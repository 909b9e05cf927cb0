//! Which handler does which callable.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    context::StepContext,
    failure::HandlerError,
    handler::{Function, Handler, Json, PayloadHandler},
    output::IntoOutput,
};

/// Handlers by the callables that templates name.
#[derive(Clone, Default)]
pub struct Registry {
    handlers: BTreeMap<String, Arc<dyn PayloadHandler>>,
}

impl Registry {
    /// Without any handler.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a handler; it replaces the one of the same name.
    pub fn register(&mut self, callable: impl Into<String>, handler: impl Handler) -> &mut Self {
        self.register_payload(callable, Json(handler))
    }

    /// Registers a function as a handler; it replaces the handler of the same name.
    pub fn register_fn<F, R, T>(&mut self, callable: impl Into<String>, function: F) -> &mut Self
    where
        F: Fn(StepContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, HandlerError>> + Send + 'static,
        T: IntoOutput + Send + 'static,
    {
        self.register_payload(callable, Function(function))
    }

    /// Registers a handler that does not speak JSON; it replaces the one of the same name.
    pub fn register_payload(
        &mut self,
        callable: impl Into<String>,
        handler: impl PayloadHandler,
    ) -> &mut Self {
        self.handlers.insert(callable.into(), Arc::new(handler));
        self
    }

    /// The callables it has handlers for, in order.
    pub fn callables(&self) -> impl ExactSizeIterator<Item = &str> {
        self.handlers.keys().map(String::as_str)
    }

    /// The handler of a callable.
    #[must_use]
    pub fn handler(&self, callable: &str) -> Option<Arc<dyn PayloadHandler>> {
        self.handlers.get(callable).cloned()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.handlers.keys()).finish()
    }
}
