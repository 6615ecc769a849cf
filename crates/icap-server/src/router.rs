//! Which service answers at which path.

use icap::{IsTag, Method};

use crate::{Options, Service, TransactError, Transaction};

/// Services by path. Built once, with the services' types kept, so that calling one costs no
/// allocation.
#[derive(Clone, Debug)]
pub struct Router<R> {
    routes: R,
}

impl Router<NoRoute> {
    /// Without services: every path is unknown.
    pub fn new() -> Self {
        Self { routes: NoRoute }
    }
}

impl Default for Router<NoRoute> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Routes> Router<R> {
    /// Serves `path` (as `/name`; with a slash at the end too) by `service`. The first one added
    /// answers `OPTIONS *`; of two with the same path the first one serves.
    pub fn route<S: Service>(self, path: &str, service: S) -> Router<R::Longer<S>> {
        let path = path.trim_end_matches('/').to_owned();
        Router { routes: self.routes.append(Route { path, service, rest: NoRoute }) }
    }

    pub(crate) fn routes(&self) -> &R {
        &self.routes
    }
}

/// A list of services; made by [`Router::route`]. An index names one of them.
pub trait Routes {
    /// This list with one more service at its end.
    type Longer<S: Service>: Routes;

    /// Adds a service at the end.
    fn append<S: Service>(self, route: Route<S, NoRoute>) -> Self::Longer<S>;

    /// The service of `path`, if there is one.
    fn find(&self, path: &str) -> Option<usize>;

    /// As [`Service::istag`]; `None` for an index that names none.
    fn istag(&self, index: usize) -> Option<IsTag>;

    /// As [`Service::options`].
    fn options(&self, index: usize) -> Options;

    /// As [`Service::methods`].
    fn methods(&self, index: usize) -> &'static [Method];

    /// As [`Service::transact`].
    ///
    /// # Errors
    /// As [`Service::transact`].
    fn transact(
        &self,
        index: usize,
        transaction: &mut Transaction<'_>,
    ) -> impl Future<Output = Result<(), TransactError>>;
}

/// The end of a list of services.
#[derive(Clone, Copy, Debug)]
pub struct NoRoute;

/// A service, and the services after it.
#[derive(Clone, Debug)]
pub struct Route<S, R> {
    path: String,
    service: S,
    rest: R,
}

impl Routes for NoRoute {
    type Longer<S: Service> = Route<S, NoRoute>;

    fn append<S: Service>(self, route: Route<S, NoRoute>) -> Self::Longer<S> {
        route
    }

    fn find(&self, _: &str) -> Option<usize> {
        None
    }

    fn istag(&self, _: usize) -> Option<IsTag> {
        None
    }

    fn options(&self, _: usize) -> Options {
        Options::default()
    }

    fn methods(&self, _: usize) -> &'static [Method] {
        &[]
    }

    async fn transact(&self, _: usize, _: &mut Transaction<'_>) -> Result<(), TransactError> {
        Err(TransactError::Failed("no such service".to_owned()))
    }
}

impl<T: Service, R: Routes> Routes for Route<T, R> {
    type Longer<S: Service> = Route<T, R::Longer<S>>;

    fn append<S: Service>(self, route: Route<S, NoRoute>) -> Self::Longer<S> {
        Route { path: self.path, service: self.service, rest: self.rest.append(route) }
    }

    fn find(&self, path: &str) -> Option<usize> {
        if path.trim_end_matches('/') == self.path {
            return Some(0);
        }
        self.rest.find(path).map(|index| index + 1)
    }

    fn istag(&self, index: usize) -> Option<IsTag> {
        match index.checked_sub(1) {
            None => Some(self.service.istag()),
            Some(index) => self.rest.istag(index),
        }
    }

    fn options(&self, index: usize) -> Options {
        match index.checked_sub(1) {
            None => self.service.options(),
            Some(index) => self.rest.options(index),
        }
    }

    fn methods(&self, index: usize) -> &'static [Method] {
        match index.checked_sub(1) {
            None => self.service.methods(),
            Some(index) => self.rest.methods(index),
        }
    }

    async fn transact(
        &self,
        index: usize,
        transaction: &mut Transaction<'_>,
    ) -> Result<(), TransactError> {
        match index.checked_sub(1) {
            None => self.service.transact(transaction).await,
            Some(index) => self.rest.transact(index, transaction).await,
        }
    }
}
