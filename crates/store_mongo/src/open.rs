//! Opening: the client and its options, what the server can do, and the schema.

use std::sync::Arc;

use mongodb::bson::doc;
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::ClientOptions;
use mongodb::{Client, error};
use store::{ErrorKind, StoreError};

use crate::database::{Store, answer, within};
use crate::error::{Failure, Outcome};
use crate::tuning::Tuning;
use crate::{MongoStore, Options, schema, uri};

/// The database when neither options nor URI name one.
const DEFAULT_DATABASE: &str = "lastmile";
/// Wire version of MongoDB 8.0, the first with the bulk write of a client.
const BULK_WRITE_WIRE_VERSION: i32 = 25;
/// Code of a command the server does not know: `hello` before 4.4.2.
const COMMAND_NOT_FOUND: i32 = 59;

impl MongoStore {
    /// Connects, and checks the schema; makes what of it is absent. Several processes may do so at once.
    /// Nothing is written when all is there, so that a user who may only read can open it too.
    ///
    /// # Errors
    /// `Unavailable` when no server answers in time or it refuses the credentials; `Data` when the database
    /// has a schema of an unknown version or an index of ours differs; `Invalid` when the URI is none or names
    /// files of certificates that cannot be used.
    pub async fn open(options: &Options) -> Result<Self, StoreError> {
        Self::open_with(options, Tuning::default()).await
    }

    /// Opens with choices for tests.
    #[doc(hidden)]
    pub async fn open_with(options: &Options, tuning: Tuning) -> Result<Self, StoreError> {
        open(options, tuning)
            .await
            .map_err(|failure| failure.during("open"))
    }
}

async fn open(options: &Options, tuning: Tuning) -> Outcome<MongoStore> {
    uri::check_uri(&options.uri)
        .map_err(|wrong| Failure::new(ErrorKind::Invalid, format!("the MongoDB URI {wrong}")))?;
    let mut client_options = answer(ClientOptions::parse(&options.uri)).await?;
    client_options.app_name = Some("lastmile".to_owned());
    client_options.server_selection_timeout = Some(options.timeout);
    client_options
        .connect_timeout
        .get_or_insert(options.timeout);
    // See `writer`: a statement must not be sent twice under one sequence.
    client_options.retry_writes = Some(false);
    if let Some(watch) = tuning.watch.clone() {
        client_options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(started) = event {
                watch(&started.command_name, &started.command);
            }
        }));
    }
    let named = options.database.clone();
    let database = named
        .or_else(|| client_options.default_database.clone())
        .unwrap_or_else(|| DEFAULT_DATABASE.to_owned());
    // Reads the files of certificates that the URI names.
    let client = Client::with_options(client_options).map_err(|error| {
        let what = format!("the MongoDB URI cannot be used: {}", error.kind);
        Failure::new(ErrorKind::Invalid, what)
    })?;
    let bulk = wire_version(&client).await? >= BULK_WRITE_WIRE_VERSION;
    let store = Store::new(client, &database, bulk, tuning);
    schema::prepare(&store, options.ttl).await?;
    Ok(MongoStore {
        store,
        options: Arc::new(options.clone()),
        pipeline: Arc::default(),
    })
}

async fn wire_version(client: &Client) -> Outcome<i32> {
    let admin = client.database("admin");
    match within(admin.run_command(doc! { "hello": 1 })).await? {
        Ok(hello) => Ok(hello.get_i32("maxWireVersion").unwrap_or(0)),
        Err(error) => match &*error.kind {
            error::ErrorKind::Command(command) if command.code == COMMAND_NOT_FOUND => Ok(0),
            _ => Err(error.into()),
        },
    }
}
