//! The client: calls with a deadline, and writes that execute exactly once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use proto::v1::keyspace::Kind;
use proto::{Applied, Code, Failure, limits, v1};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::calls::{Call, Manage, Read, ReadRequest, Repeat, Write, WriteRequest};
use crate::config::{CallOptions, Config, Retry, TIMEOUT_MAX};
use crate::contexts::Contexts;
use crate::error::ClientError;
use crate::keyspaces::Keyspaces;
use crate::kinds::{self, Kinds};
use crate::members::Members;
use crate::node::NodeClient;
use crate::retry;
use crate::routes::Routes;
use crate::snapshot::{SaveError, SnapshotParts};
use crate::tls::TlsSettings;
use crate::write_ids::WriteIdentity;

/// Longest time that a write waits for each of the two answers that say the kind of its keyspace.
const KIND_PATIENCE_MAX: Duration = Duration::from_millis(500);

/// A client of one cluster. Cheap to clone; clones share connections and write identity.
///
/// Calls need a tokio runtime with time and I/O. Any number of them may run at once; each endpoint is
/// connected on first use. Dropping a call's future gives the call up: a write may then be applied
/// or not.
///
/// # Examples
///
/// ```no_run
/// use std::path::Path;
///
/// use client::{CallOptions, Client, Config, pki};
///
/// # async fn example() -> Result<(), client::ClientError> {
/// let [ca, cert, key] = ["pki/ca.crt", "pki/alice.crt", "pki/alice.key"].map(Path::new);
/// let config = Config::new(vec!["127.0.0.1:7610".into()], pki::load(ca, cert, key)?);
/// let client = Client::connect(config)?;
/// let options = CallOptions::default();
/// let written = client.put_value("hello", "world", &options).await?;
/// let read = client.get_value("hello", &options).await?;
/// assert_eq!(read.as_deref(), Some(&b"world"[..]));
/// # let _ = written.revision;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    timeout: Duration,
    defaults: Defaults,
    routes: Routes,
    kinds: Kinds,
    contexts: Contexts,
    /// The identity of new writes; `None` before the first Hello and after it was given up.
    identity: Mutex<Option<Arc<WriteIdentity>>>,
    /// Held by the one call that says Hello for an identity.
    saying_hello: tokio::sync::Mutex<()>,
    names: RwLock<BTreeMap<u64, String>>,
    /// The newest log index that an answer named.
    newest_index: AtomicU64,
}

/// What calls ask for unless their options say it.
#[derive(Clone, Debug)]
struct Defaults {
    keyspace: String,
    level: v1::Level,
    remember: bool,
}

impl Client {
    /// Sets a client up. Connects nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Setup`].
    pub fn connect(config: Config) -> Result<Self, ClientError> {
        config.validate()?;
        let tls = TlsSettings::new(&config.credentials)?;
        let routes = Routes::new(&config.endpoints, config.connections, config.discover, tls)?;
        let Config { timeout, keyspace, level, remember, .. } = config;
        Ok(Self::with_routes(routes, timeout, Defaults { keyspace, level, remember }))
    }

    fn with_routes(routes: Routes, timeout: Duration, defaults: Defaults) -> Self {
        let inner = Inner {
            timeout,
            defaults,
            routes,
            kinds: Kinds::default(),
            contexts: Contexts::default(),
            identity: Mutex::new(None),
            saying_hello: tokio::sync::Mutex::new(()),
            names: RwLock::new(BTreeMap::new()),
            newest_index: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Asks a node who is there, and remembers the members.
    ///
    /// # Errors
    /// Those of any read, see [`ClientError`].
    pub async fn hello(&self, options: &CallOptions) -> Result<v1::HelloReply, ClientError> {
        let budget = self.budget(options);
        self.say_hello(&budget).await
    }

    /// Makes the client ready to write: says Hello unless that was done before. Writes do so
    /// by themselves; doing it first keeps the time of connecting out of the first write.
    ///
    /// # Errors
    /// Those of [`hello`](Self::hello), as of a write that was not applied.
    pub async fn prepare_writes(&self, options: &CallOptions) -> Result<(), ClientError> {
        let identity = self.identity(&self.budget(options)).await;
        identity.map(drop).map_err(|error| nothing_written(error, "write".to_owned()))
    }

    /// Reads one key. The request's level and keyspace stand above those of the options.
    ///
    /// In an eventual keyspace the reply holds the `siblings` that live, or the first of them, and the
    /// `context` of what was read; `item` is there when there is exactly one value.
    /// [`siblings`](Self::siblings) reads all.
    ///
    /// # Errors
    /// See [`ClientError`]. An absent key is no error.
    pub async fn get(
        &self,
        mut request: v1::GetRequest,
        options: &CallOptions,
    ) -> Result<v1::GetReply, ClientError> {
        let budget = self.budget(options);
        let checked = limits::check_key(&request.key);
        self.prepare(&mut request.keyspace, &mut request.level, checked, options)?;
        let mut call = Read(request);
        let reply = self.read_data(&mut call, &budget).await?;
        let v1::GetRequest { keyspace, key, siblings_after, .. } = &call.0;
        if !reply.context.is_empty() || !reply.siblings.is_empty() {
            self.inner.kinds.learn(keyspace, Kind::Eventual);
        }
        // A token of which a part was not shown would supersede what nobody read.
        if self.remembers(options) && reply.more == 0 && siblings_after.is_none() {
            self.inner.contexts.put(keyspace, key, &reply.context);
        }
        Ok(reply)
    }

    /// Reads the newest value of a key; `None` when it is absent.
    ///
    /// # Errors
    /// See [`ClientError`]. [`Code::SeveralValues`] where a key of an eventual keyspace has more than one.
    pub async fn get_value(
        &self,
        key: impl Into<Bytes>,
        options: &CallOptions,
    ) -> Result<Option<Bytes>, ClientError> {
        let request = v1::GetRequest { key: key.into(), ..Default::default() };
        let subject = Read(request.clone()).subject();
        let mut reply = self.get(request, options).await?;
        if reply.siblings.len() > 1 || reply.more > 0 {
            let values = reply.siblings.len() + reply.more as usize;
            let why = format!("{values} values do not know of each other");
            let failure = Failure::new(Code::SeveralValues, subject, why);
            return Err(ClientError::Refused(Box::new(failure)));
        }
        let value = reply.item.map(|item| item.value);
        Ok(value.or_else(|| reply.siblings.pop().map(|sibling| sibling.value)))
    }

    /// Reads one page of a range. [`Pages`](crate::Pages) reads all of them.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn range(
        &self,
        mut request: v1::RangeRequest,
        options: &CallOptions,
    ) -> Result<v1::RangeReply, ClientError> {
        let budget = self.budget(options);
        let checked = limits::check_range(&request.from, &request.to);
        self.prepare(&mut request.keyspace, &mut request.level, checked, options)?;
        self.read_data(&mut Read(request), &budget).await
    }

    /// Reads one page of the versions of a key, newest first. The next page begins `before` the
    /// revision of the last version of this one.
    ///
    /// # Errors
    /// See [`ClientError`]. A key without versions is no error.
    pub async fn history(
        &self,
        mut request: v1::HistoryRequest,
        options: &CallOptions,
    ) -> Result<v1::HistoryReply, ClientError> {
        let budget = self.budget(options);
        let checked = limits::check_key(&request.key);
        self.prepare(&mut request.keyspace, &mut request.level, checked, options)?;
        self.read_data(&mut Read(request), &budget).await
    }

    /// Writes one key. `id` is filled in here. A condition that does not hold is no error:
    /// `succeeded` is false then.
    ///
    /// In an eventual keyspace the value supersedes what `causal` covers; where the request names none, what
    /// this client read of the key, see [`CallOptions::remember`].
    ///
    /// # Errors
    /// See [`ClientError`]. [`Code::AckMissed`]: the write is applied, on fewer replicas than `ack` asks for;
    /// [`Failure::partial`] says on how many, and which write it is.
    pub async fn put(
        &self,
        mut request: v1::PutRequest,
        options: &CallOptions,
    ) -> Result<v1::PutReply, ClientError> {
        let budget = self.budget(options);
        self.fill_keyspace(&mut request.keyspace, options);
        fill_ack(&mut request.ack, options);
        let checked = limits::check_key(&request.key)
            .and_then(|()| limits::check_value(&request.value))
            .and_then(|()| check_condition(request.condition.as_ref()))
            .and_then(|()| check_causal(&request.causal, request.ttl_ms))
            .and_then(|()| check_write(&request.keyspace, &request));
        checked.map_err(|failure| unsent(failure, &request))?;
        self.write(request, options, &budget).await
    }

    /// Writes a value.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn put_value(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        options: &CallOptions,
    ) -> Result<v1::PutReply, ClientError> {
        let request = v1::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        self.put(request, options).await
    }

    /// Deletes a key, or all keys of a range. `id` is filled in here. An absent key and a condition
    /// that does not hold are no errors. In an eventual keyspace it deletes what `causal` covers, as a
    /// [`put`](Self::put) supersedes it, and nothing else.
    ///
    /// # Errors
    /// Those of [`put`](Self::put).
    pub async fn delete(
        &self,
        mut request: v1::DeleteRequest,
        options: &CallOptions,
    ) -> Result<v1::DeleteReply, ClientError> {
        let budget = self.budget(options);
        self.fill_keyspace(&mut request.keyspace, options);
        fill_ack(&mut request.ack, options);
        let checked = limits::check_key(&request.key)
            .and_then(|()| limits::check_range(&request.key, &request.range_end))
            .and_then(|()| check_condition(request.condition.as_ref()))
            .and_then(|()| check_causal(&request.causal, 0))
            .and_then(|()| check_write(&request.keyspace, &request));
        checked.map_err(|failure| unsent(failure, &request))?;
        self.write(request, options, &budget).await
    }

    /// Executes a transaction: all compares hold, then `then_ops`, else `else_ops`. `id` is filled
    /// in here.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn txn(
        &self,
        mut request: v1::TxnRequest,
        options: &CallOptions,
    ) -> Result<v1::TxnReply, ClientError> {
        let budget = self.budget(options);
        self.fill_keyspace(&mut request.keyspace, options);
        let checked = limits::check_txn(&request.compares, &request.then_ops, &request.else_ops)
            .and_then(|()| check_write(&request.keyspace, &request));
        checked.map_err(|failure| unsent(failure, &request))?;
        self.write(request, options, &budget).await
    }

    /// The kind of a keyspace, that of the options or the client's own; `None` when no node said it in
    /// time, or there is none of this name.
    pub async fn kind(&self, options: &CallOptions) -> Option<Kind> {
        let mut keyspace = String::new();
        self.fill_keyspace(&mut keyspace, options);
        self.kind_of(&keyspace, &self.budget(options)).await
    }

    /// The same for who cannot do without it: waits as long as for any call, and says why it is not known.
    pub(crate) async fn sure_kind(&self, options: &CallOptions) -> Result<Kind, ClientError> {
        let mut keyspace = String::new();
        self.fill_keyspace(&mut keyspace, options);
        let budget = self.budget(options);
        self.ask_kind(&keyspace, &budget, budget.timeout / 2).await
    }

    /// The level that a read of this keyspace has, if its options name `asked`.
    pub(crate) async fn level(&self, asked: v1::Level, options: &CallOptions) -> v1::Level {
        match asked {
            v1::Level::Unspecified => {
                self.kind(options).await.map_or(v1::Level::Linearizable, default_level)
            }
            named => named,
        }
    }

    /// What the cluster says about itself.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self, options: &CallOptions) -> Result<v1::StatusReply, ClientError> {
        self.read(Read(v1::StatusRequest {}), &self.budget(options)).await
    }

    /// The members of the cluster, and their changes.
    #[must_use]
    pub fn members(&self) -> Members {
        Members::new(self.clone())
    }

    /// The keyspaces of the cluster, and their changes.
    #[must_use]
    pub fn keyspaces(&self) -> Keyspaces {
        Keyspaces::new(self.clone())
    }

    /// The node at this client address, and no other.
    ///
    /// # Errors
    /// [`ClientError::Setup`] for what is no `host:port`.
    pub fn node(&self, endpoint: &str) -> Result<NodeClient, ClientError> {
        let Inner { timeout, defaults, routes, .. } = &*self.inner;
        let alone = Self::with_routes(routes.alone(endpoint)?, *timeout, defaults.clone());
        Ok(NodeClient::new(alone))
    }

    /// Begins to read a snapshot: an export of all data as of a linearizable read, in parts. Here
    /// `timeout` is the longest silence, before the first part and between two.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn snapshot(&self, options: &CallOptions) -> Result<SnapshotParts, ClientError> {
        let budget = self.budget(options);
        let begun = self.execute(&Read(v1::SaveSnapshotRequest {}), &budget).await?;
        Ok(SnapshotParts::new(begun, budget.timeout))
    }

    /// Writes a snapshot to `writer` and flushes it. Returns its length, which was verified; its
    /// content is verified by `kvstore snapshot verify`.
    ///
    /// # Errors
    /// [`SaveError`](crate::SaveError); the writer then holds a part that is good for nothing.
    pub async fn save_snapshot(
        &self,
        writer: &mut (dyn AsyncWrite + Unpin + Send),
        options: &CallOptions,
    ) -> Result<u64, SaveError> {
        let mut parts = self.snapshot(options).await?;
        while let Some(part) = parts.next().await? {
            writer.write_all(&part).await?;
        }
        writer.flush().await?;
        Ok(parts.total())
    }

    /// The name of a member, as the last Hello said.
    #[must_use]
    pub fn member_name(&self, id: u64) -> Option<String> {
        self.inner.names.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn budget(&self, options: &CallOptions) -> Budget {
        let timeout = self.timeout(options);
        Budget { timeout, deadline: Instant::now() + timeout }
    }

    /// The total time of a call.
    pub(crate) fn timeout(&self, options: &CallOptions) -> Duration {
        options.timeout.unwrap_or(self.inner.timeout).min(TIMEOUT_MAX)
    }

    /// Remembers what several reads of one key saw together.
    pub(crate) fn remember_read(
        &self,
        request: &v1::GetRequest,
        context: &Bytes,
        options: &CallOptions,
    ) {
        let mut keyspace = request.keyspace.clone();
        self.fill_keyspace(&mut keyspace, options);
        if self.remembers(options) {
            self.remember(&keyspace, Some(&request.key), context);
        }
    }

    /// Fills in what a read leaves to the client's defaults, and refuses what no node would take.
    fn prepare(
        &self,
        keyspace: &mut String,
        level: &mut i32,
        checked: Result<(), Failure>,
        options: &CallOptions,
    ) -> Result<(), ClientError> {
        self.fill_keyspace(keyspace, options);
        self.fill_level(level, keyspace, options);
        checked.and_then(|()| limits::check_keyspace(keyspace)).map_err(unsent_read)
    }

    fn fill_keyspace(&self, keyspace: &mut String, options: &CallOptions) {
        if keyspace.is_empty() {
            keyspace.push_str(options.keyspace.as_ref().unwrap_or(&self.inner.defaults.keyspace));
        }
    }

    fn fill_level(&self, level: &mut i32, keyspace: &str, options: &CallOptions) {
        if *level == v1::Level::Unspecified as i32 {
            *level = options.level.unwrap_or(self.inner.defaults.level) as i32;
        }
        if *level == v1::Level::Unspecified as i32 {
            *level =
                self.inner.kinds.get(keyspace).map_or(v1::Level::Unspecified, default_level) as i32;
        }
    }

    /// Whether contexts are remembered.
    fn remembers(&self, options: &CallOptions) -> bool {
        options.remember.unwrap_or(self.inner.defaults.remember)
    }

    /// Reads of a keyspace. A level that neither the caller nor this client could name is left to the
    /// server; if that takes it for one that the kind does not offer, the kind is asked for.
    async fn read_data<R>(
        &self,
        call: &mut Read<R>,
        budget: &Budget,
    ) -> Result<<Read<R> as Call>::Reply, ClientError>
    where
        R: ReadRequest,
        Read<R>: Call,
    {
        let outcome = self.execute(call, budget).await;
        match &outcome {
            Err(error) if error.code() == Code::KeyspaceNotFound => {
                self.inner.kinds.forget(call.0.keyspace());
            }
            Err(error)
                if error.code() == Code::LevelNotOffered
                    && *call.0.level() == v1::Level::Unspecified as i32 =>
            {
                let kind = self.kind_of(call.0.keyspace(), budget).await;
                if kind == Some(Kind::Eventual) {
                    *call.0.level() = v1::Level::Eventual as i32;
                    return self.execute(call, budget).await;
                }
            }
            Err(_) | Ok(_) => {}
        }
        outcome
    }

    /// The kind of a keyspace, asked for unless it is known. A node that takes long to say it holds no
    /// call up for long: what is not known is treated so that nothing can go wrong.
    async fn kind_of(&self, keyspace: &str, budget: &Budget) -> Option<Kind> {
        let timeout = KIND_PATIENCE_MAX.min(budget.timeout / 4);
        self.ask_kind(keyspace, budget, timeout).await.ok()
    }

    /// The kind of a keyspace, from the first of two questions that says it. Each has this time.
    async fn ask_kind(
        &self,
        keyspace: &str,
        budget: &Budget,
        timeout: Duration,
    ) -> Result<Kind, ClientError> {
        if let Some(kind) = self.inner.kinds.get(keyspace) {
            return Ok(kind);
        }
        let patience =
            || Budget { timeout, deadline: budget.deadline.min(Instant::now() + timeout) };
        let request = v1::ListKeyspacesRequest { name: keyspace.to_owned() };
        let kind = match self.execute(&Read(request), &patience()).await {
            Ok(reply) => {
                let mut all = reply.keyspaces.into_iter().filter_map(|view| view.keyspace);
                let found = all.find(|found| found.name == keyspace);
                found.ok_or_else(|| kinds::no_keyspace(keyspace))?.kind()
            }
            Err(error) if error.code() == Code::KeyspaceNotFound => return Err(error),
            // The list needs a leader. A node that is cut off from it answers a read.
            Err(_) => {
                let level = v1::Level::Eventual as i32;
                let (keyspace, key) = (keyspace.to_owned(), Bytes::from_static(&[0]));
                let request = v1::GetRequest { keyspace, key, level, ..Default::default() };
                let reply = self.execute(&Read(request), &patience()).await?;
                // A linearizable keyspace begins at revision 1, an eventual one has none.
                match reply.proof.map(|proof| proof.revision) {
                    Some(0) => Kind::Eventual,
                    Some(_) => Kind::Linearizable,
                    None => Kind::Unspecified,
                }
            }
        };
        if kind == Kind::Unspecified {
            return Err(kinds::no_kind(keyspace));
        }
        self.inner.kinds.learn(keyspace, kind);
        Ok(kind)
    }

    async fn read<C: Call>(&self, call: C, budget: &Budget) -> Result<C::Reply, ClientError> {
        self.execute(&call, budget).await
    }

    /// Asks something that is no data: it needs neither keyspace nor level.
    pub(crate) async fn ask<R>(
        &self,
        request: R,
        options: &CallOptions,
    ) -> Result<<Read<R> as Call>::Reply, ClientError>
    where
        Read<R>: Call,
    {
        self.read(Read(request), &self.budget(options)).await
    }

    /// Changes the cluster itself.
    pub(crate) async fn manage<R>(
        &self,
        request: R,
        options: &CallOptions,
    ) -> Result<<Manage<R> as Call>::Reply, ClientError>
    where
        Manage<R>: Call,
    {
        self.execute(&Manage(request), &self.budget(options)).await
    }

    /// Carries out a call and remembers what its answer says.
    async fn execute<C: Call>(&self, call: &C, budget: &Budget) -> Result<C::Reply, ClientError> {
        let Budget { timeout, deadline } = *budget;
        let reply = retry::execute(&self.inner.routes, call, timeout, deadline).await?;
        self.inner.newest_index.fetch_max(C::learned(&reply).index, Ordering::Relaxed);
        Ok(reply)
    }

    /// Carries out a write with what is remembered of its key, and remembers what it came to.
    async fn write<R>(
        &self,
        mut request: R,
        options: &CallOptions,
        budget: &Budget,
    ) -> Result<<Write<R> as Call>::Reply, ClientError>
    where
        R: WriteRequest,
        Write<R>: Call,
    {
        // Hello comes first, as it brings a connection up: that is no time to wait for the kind.
        let identity = match self.identity(budget).await {
            Ok(identity) => identity,
            Err(error) => return Err(nothing_written(error, request.subject())),
        };
        let kind = self.kind_of(request.keyspace(), budget).await;
        let keyspace = request.keyspace().to_owned();
        let remembers = kind != Some(Kind::Linearizable) && self.remembers(options);
        let key = request.causal().filter(|_| remembers).map(|causal| causal.key.clone());
        if let (Some(key), Some(causal)) = (&key, request.causal())
            && causal.token.is_empty()
            && !*causal.beside
        {
            *causal.token = self.inner.contexts.get(&keyspace, key);
        }
        let repeat = match (kind, options.retry) {
            (Some(Kind::Linearizable), _) => Repeat::Anywhere,
            (Some(Kind::Eventual), Retry::AtLeastOnce) => Repeat::AsAnother,
            // Exact in a keyspace of either kind.
            (Some(Kind::Eventual), Retry::Exact) | (Some(Kind::Unspecified) | None, _) => {
                Repeat::There
            }
        };
        let outcome = self.write_once(request, repeat, identity, budget).await;
        match &outcome {
            Ok(reply) => match Write::<R>::learned(reply).written {
                Some(written) => {
                    self.inner.kinds.learn(&keyspace, Kind::Eventual);
                    self.remember(&keyspace, key.as_ref(), &written.context);
                }
                None => self.inner.kinds.learn(&keyspace, Kind::Linearizable),
            },
            Err(error) => self.learn_from(error.failure(), &keyspace, key.as_ref()),
        }
        outcome
    }

    fn remember(&self, keyspace: &str, key: Option<&Bytes>, context: &Bytes) {
        if let Some(key) = key {
            self.inner.contexts.put(keyspace, key, context);
        }
    }

    /// Remembers what a failed write came to, and forgets what did not fit.
    fn learn_from(&self, failure: &Failure, keyspace: &str, key: Option<&Bytes>) {
        if let Some(partial) = &failure.partial {
            self.remember(keyspace, key, &partial.context);
        }
        let of_another = matches!(failure.code, Code::KeyspaceNotFound | Code::VerbNotOffered);
        let useless = matches!(
            failure.code,
            Code::TokenInvalid | Code::TokenExpired | Code::TokenOtherKeyspace
        );
        if of_another {
            self.inner.kinds.forget(keyspace);
        }
        if let Some(key) = key.filter(|_| of_another || useless) {
            self.inner.contexts.forget(keyspace, key);
        }
    }

    /// Carries out a write under this identity. When the cluster no longer keeps outcomes
    /// as old as the identity, the identity is replaced; if the write was certainly not applied, it
    /// is then sent once more under the new one.
    async fn write_once<R>(
        &self,
        request: R,
        repeat: Repeat,
        mut identity: Arc<WriteIdentity>,
        budget: &Budget,
    ) -> Result<<Write<R> as Call>::Reply, ClientError>
    where
        R: WriteRequest,
        Write<R>: Call,
    {
        let born = || self.inner.newest_index.load(Ordering::Relaxed);
        let ticket = identity.begin(born());
        let mut call = Write { request, ticket, repeat };
        let mut renewed = false;
        loop {
            match self.execute(&call, budget).await {
                Err(error) if error.code() == Code::OutcomeForgotten => {
                    self.retire(&identity);
                    if renewed || error.applied() != Some(Applied::No) {
                        return Err(error);
                    }
                    renewed = true;
                    let renewal = self.identity(budget).await;
                    identity =
                        renewal.map_err(|error| nothing_written(error, call.request.subject()))?;
                    call.ticket = identity.begin(born());
                }
                other => return other,
            }
        }
    }

    /// The identity of new writes. The first caller says Hello for it, others wait.
    async fn identity(&self, budget: &Budget) -> Result<Arc<WriteIdentity>, ClientError> {
        if let Some(identity) = self.current_identity() {
            return Ok(identity);
        }
        let turn = timeout_at(budget.deadline, self.inner.saying_hello.lock()).await;
        let _turn = turn.map_err(|_| {
            let why = "no node answered in time";
            ClientError::Lost(Box::new(Failure::new(Code::ReadTimedOut, "hello", why)))
        })?;
        if let Some(identity) = self.current_identity() {
            return Ok(identity);
        }
        self.say_hello(budget).await?;
        let identity = Arc::new(WriteIdentity::mint());
        *self.lock_identity() = Some(identity.clone());
        Ok(identity)
    }

    fn lock_identity(&self) -> std::sync::MutexGuard<'_, Option<Arc<WriteIdentity>>> {
        self.inner.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current_identity(&self) -> Option<Arc<WriteIdentity>> {
        self.lock_identity().clone()
    }

    /// Begins no more writes under this identity.
    fn retire(&self, identity: &Arc<WriteIdentity>) {
        let mut current = self.lock_identity();
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, identity)) {
            *current = None;
        }
    }

    async fn say_hello(&self, budget: &Budget) -> Result<v1::HelloReply, ClientError> {
        let reply = self.read(Read(v1::HelloRequest {}), budget).await?;
        self.inner.routes.learn(&reply.members);
        let names = reply.members.iter().map(|member| (member.id, member.name.clone())).collect();
        *self.inner.names.write().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(reply)
    }
}

/// The time that one call has.
struct Budget {
    timeout: Duration,
    deadline: Instant,
}

/// The level of a read where none is named.
fn default_level(kind: Kind) -> v1::Level {
    match kind {
        Kind::Eventual => v1::Level::Eventual,
        Kind::Linearizable | Kind::Unspecified => v1::Level::Linearizable,
    }
}

fn fill_ack(ack: &mut i32, options: &CallOptions) {
    if *ack == v1::Ack::Unspecified as i32 {
        *ack = options.ack.unwrap_or_default() as i32;
    }
}

fn check_causal(token: &[u8], ttl_ms: u64) -> Result<(), Failure> {
    if token.len() > limits::TOKEN_BYTES_MAX {
        let why = format!(
            "it has {} bytes; at most {} are allowed",
            token.len(),
            limits::TOKEN_BYTES_MAX
        );
        return Err(Failure::new(Code::TokenInvalid, "causal token", why).applied(Applied::No));
    }
    if ttl_ms > limits::TTL_MS_MAX {
        let why = "a value lives for ten years at most, or without a time".to_owned();
        return Err(Failure::new(Code::InvalidRequest, "time to live", why).applied(Applied::No));
    }
    Ok(())
}

fn check_condition(condition: Option<&v1::Compare>) -> Result<(), Failure> {
    condition.map_or(Ok(()), limits::check_compare)
}

/// The room that the id of a write takes in a request that does not hold it yet.
const WRITE_ID_BYTES_MAX: usize = 64;

fn check_write(keyspace: &str, request: &impl Message) -> Result<(), Failure> {
    limits::check_keyspace(keyspace)?;
    let bytes = request.encoded_len() + WRITE_ID_BYTES_MAX;
    if bytes > limits::REQUEST_BYTES_MAX {
        let why = format!(
            "the request has {bytes} bytes; at most {} are allowed",
            limits::REQUEST_BYTES_MAX
        );
        return Err(Failure::new(Code::RequestTooLarge, "request", why).applied(Applied::No));
    }
    Ok(())
}

/// A write that a check kept from being sent.
fn unsent(failure: Failure, request: &impl WriteRequest) -> ClientError {
    ClientError::Refused(Box::new(failure.applied(Applied::No).subject(request.subject())))
}

/// A read that a check kept from being sent.
fn unsent_read(mut failure: Failure) -> ClientError {
    failure.applied = None;
    ClientError::Refused(Box::new(failure.subject("read")))
}

/// The Hello before a write failed: nothing of the write was sent.
fn nothing_written(error: ClientError, subject: String) -> ClientError {
    let no = |failure: Box<Failure>| Box::new(failure.applied(Applied::No).subject(subject));
    match error {
        ClientError::Refused(failure) => ClientError::Refused(no(failure)),
        ClientError::Lost(failure) => ClientError::Lost(no(failure)),
        ClientError::Unreached { failure, endpoints } => {
            ClientError::Unreached { failure: no(failure), endpoints }
        }
        ClientError::Setup { failure, source } => {
            ClientError::Setup { failure: no(failure), source }
        }
    }
}
