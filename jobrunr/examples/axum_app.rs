//! A web application on PostgreSQL whose jobs are created in the transactions of its own rows.
//!
//! ```text
//! cargo run --example axum_app --features postgres -- postgres://user:secret@localhost/app            # plays by itself
//! cargo run --example axum_app --features postgres -- postgres://user:secret@localhost/app --serve    # stays open
//! ```
//!
//! The URL may also be in `JOBRUNR_TEST_POSTGRES_URL`. The application takes orders over HTTP: an order and the job that
//! confirms it are written in one transaction, so there is never an order without its job or a job without its order.
//!
//! One sees what a client asks and what the job does. The client orders a book; orders something that a rule of the database
//! refuses after its job was created, and neither is there; and reads the order again, confirmed by the job, which wrote that
//! in a transaction with the mark that it did.
//! Everything lies in the schema `jobrunr_axum_app`, which is dropped at the end. `GET /health` tells how the server is doing.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use jobrunr::postgres::{EnqueueIn as _, PostgresOptions, PostgresStorage};
use jobrunr::prelude::*;
use jobrunr::server::Health;
use jobrunr::storage::SetUp;
use sqlx::PgPool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const SCHEMA: &str = "jobrunr_axum_app";

type Error = Box<dyn std::error::Error + Send + Sync>;
/// What a request that fails is answered with.
type Refusal = (StatusCode, String);

/// Confirms an order. It may run twice, so the order itself says whether that was done.
#[job(name = "Confirm order {order}", labels = ["orders"])]
async fn confirm(order: i64, pool: Inject<PgPool>) -> JobResult {
    let confirmed =
        sqlx::query("UPDATE jobrunr_axum_app.orders SET confirmed = true WHERE id = $1 AND NOT confirmed");
    let rows = confirmed.bind(order).execute(&*pool).await?.rows_affected();
    println!("job:    order {order} is confirmed{}", if rows == 0 { " already" } else { "" });
    Ok(())
}

#[derive(Clone)]
struct App {
    pool: PgPool,
    scheduler: JobScheduler,
}

#[derive(Deserialize)]
struct Order {
    item: String,
    quantity: i32,
}

/// The order and its job, both or neither.
async fn order(State(app): State<App>, Json(order): Json<Order>) -> Result<String, Refusal> {
    let mut transaction = app.pool.begin().await.map_err(failed)?;
    let insert = "INSERT INTO jobrunr_axum_app.orders (item) VALUES ($1) RETURNING id";
    let id: i64 =
        sqlx::query_scalar(insert).bind(order.item).fetch_one(&mut *transaction).await.map_err(failed)?;
    app.scheduler.enqueue_in(&mut transaction, confirm::job(id)).await.map_err(failed)?;
    let quantity = "UPDATE jobrunr_axum_app.orders SET quantity = $2 WHERE id = $1";
    let update = sqlx::query(quantity).bind(id).bind(order.quantity).execute(&mut *transaction).await;
    // Without a commit everything is rolled back, the job too.
    update.map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    transaction.commit().await.map_err(failed)?;
    Ok(id.to_string())
}

async fn status(State(app): State<App>, Path(id): Path<i64>) -> Result<String, Refusal> {
    let select = "SELECT confirmed FROM jobrunr_axum_app.orders WHERE id = $1";
    let confirmed: Option<bool> =
        sqlx::query_scalar(select).bind(id).fetch_optional(&app.pool).await.map_err(failed)?;
    match confirmed {
        Some(true) => Ok("confirmed".to_owned()),
        Some(false) => Ok("ordered".to_owned()),
        None => Err((StatusCode::NOT_FOUND, "there is no such order".to_owned())),
    }
}

async fn health(State(server): State<Arc<BackgroundJobServer>>) -> (StatusCode, String) {
    match server.health() {
        Health::Up => (StatusCode::OK, "UP".to_owned()),
        // The server mends this by itself: restarting the process would not help.
        Health::Degraded { since, why } => (StatusCode::OK, format!("DEGRADED since {since}: {why}")),
        Health::Down { since, why } => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("DOWN since {since}: {why}"))
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "unknown".to_owned()),
    }
}

fn failed(error: impl std::error::Error) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let stays_open = std::env::args().any(|argument| argument == "--serve");
    let given = std::env::args().skip(1).find(|argument| argument.starts_with("postgres"));
    let url = given.or_else(|| std::env::var("JOBRUNR_TEST_POSTGRES_URL").ok());
    let url = url.ok_or("say where PostgreSQL is: a URL as the argument, or in JOBRUNR_TEST_POSTGRES_URL")?;

    // One pool for the application and its jobs.
    let pool = PgPool::connect(&url).await?;
    for statement in [
        "DROP SCHEMA IF EXISTS jobrunr_axum_app CASCADE",
        "CREATE SCHEMA jobrunr_axum_app",
        "CREATE TABLE jobrunr_axum_app.orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item text NOT NULL, \
         quantity int NOT NULL DEFAULT 1 CHECK (quantity > 0), confirmed bool NOT NULL DEFAULT false)",
    ] {
        sqlx::query(statement).execute(&pool).await?;
    }
    let storage = PostgresStorage::with_pool(pool.clone(), PostgresOptions::default().schema(SCHEMA))?;
    storage.set_up(SetUp::Migrate).await?;
    let storage: Arc<dyn StorageProvider> = Arc::new(storage);

    let server = BackgroundJobServer::builder(Arc::clone(&storage)).job(confirm).provide(pool.clone());
    let server = Arc::new(server.start().await?);
    let scheduler = JobScheduler::new(Arc::clone(&storage));
    let app = App { pool: pool.clone(), scheduler };
    let routes = Router::new()
        .route("/orders", post(order))
        .route("/orders/{id}", get(status))
        .with_state(app)
        .route("/health", get(health).with_state(Arc::clone(&server)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let web = tokio::spawn(axum::serve(listener, routes).into_future());

    if stays_open {
        println!("http://{address}/orders takes {{\"item\": \"book\", \"quantity\": 1}}; ctrl-c ends it.");
        tokio::signal::ctrl_c().await?;
    } else {
        play(address, &pool, storage.as_ref()).await?;
    }

    web.abort();
    server.stop().await;
    storage.close().await;
    let pool = PgPool::connect(&url).await?;
    sqlx::query("DROP SCHEMA jobrunr_axum_app CASCADE").execute(&pool).await?;
    Ok(())
}

/// What a client does.
async fn play(address: SocketAddr, pool: &PgPool, storage: &dyn StorageProvider) -> Result<(), Error> {
    let (_, id) = request(address, "POST", "/orders", r#"{"item":"book","quantity":1}"#).await?;
    println!("client: ordered a book, it is order {id}");

    let (status, _) = request(address, "POST", "/orders", r#"{"item":"nothing","quantity":0}"#).await?;
    let orders: i64 =
        sqlx::query_scalar("SELECT count(*) FROM jobrunr_axum_app.orders").fetch_one(pool).await?;
    let jobs = storage.job_counts().await?.total();
    println!("client: ordered nothing, and was refused ({status}); there are {orders} order and {jobs} job");
    if (orders, jobs) != (1, 1) {
        return Err("what was rolled back should not be there".into());
    }

    let confirmed = async {
        while request(address, "GET", &format!("/orders/{id}"), "").await?.1 != "confirmed" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok::<_, Error>(())
    };
    tokio::time::timeout(Duration::from_secs(20), confirmed).await??;
    println!("client: order {id} is confirmed");
    let (status, health) = request(address, "GET", "/health", "").await?;
    println!("client: the server is {health} ({status})");
    Ok(())
}

/// As much of an HTTP client as this needs: the status and the text of the answer.
async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> Result<(String, String), Error> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is no HTTP")?;
    let status = head.split(' ').nth(1).ok_or("the answer has no status")?;
    Ok((status.to_owned(), body.to_owned()))
}
