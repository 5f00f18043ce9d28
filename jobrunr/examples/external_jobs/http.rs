//! As much of an HTTP client as this example needs, so that it needs no crate for it.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Whatever goes wrong.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<String, Error> {
    request(address, "GET", path, "text/plain", "").await
}

pub(crate) async fn post_form(address: SocketAddr, path: &str) -> Result<String, Error> {
    request(address, "POST", path, "application/x-www-form-urlencoded", "").await
}

/// The answer is the text of its body.
pub(crate) async fn post_json(address: SocketAddr, path: &str, body: &Value) -> Result<String, Error> {
    request(address, "POST", path, "application/json", &body.to_string()).await
}

async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    content_type: &str,
    body: &str,
) -> Result<String, Error> {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: {content_type}\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("the answer is no HTTP")?;
    let status = head.split(' ').nth(1).ok_or("the answer has no status")?;
    if status.starts_with(['2', '3']) { Ok(body.to_owned()) } else { Err(format!("{status}: {body}").into()) }
}
