//! What goes wrong is told clearly, and never shows a password.

use std::error::Error;
use std::time::Duration;

use jobrunr_core::storage::{JobSearch, SetUp, StorageError, StorageProvider};
use jobrunr_storage_mongo::{MongoOptions, MongoStorage};

use crate::support::private_server::{Access, PASSWORD, PrivateServers};

/// All that an error says.
fn text_of(error: &StorageError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(" {cause} {cause:?}"));
        source = cause.source();
    }
    text
}

#[tokio::test]
async fn a_wrong_password_is_told_without_being_shown() {
    let Some(mongo) = PrivateServers::start(1, Access::WithPassword).await.unwrap() else { return };

    let refused = MongoStorage::connect(&mongo.url_with_password("wrong-horse")).await.unwrap_err();
    let nobody = MongoStorage::connect(&mongo.url()).await;
    let storage = MongoStorage::connect(&mongo.url_with_password(PASSWORD)).await.unwrap();

    assert!(matches!(refused, StorageError::Backend { .. }), "{refused:?}");
    assert!(text_of(&refused).contains("password"), "it says what to look at");
    assert!(!text_of(&refused).contains("wrong-horse"));
    assert!(!format!("{storage:?}").contains(PASSWORD));
    storage.set_up(SetUp::Migrate).await.unwrap();
    assert_eq!(storage.job_counts().await.unwrap().total(), 0);
    storage.close().await;
    if let Ok(storage) = nobody {
        let refused = storage.set_up(SetUp::Migrate).await.unwrap_err();
        assert!(!refused.is_retryable(), "{refused:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable_within_the_time_given() {
    let options = MongoOptions::default().connect_timeout(Duration::from_millis(300));
    let begun = std::time::Instant::now();

    let away = MongoStorage::connect_with("mongodb://u:secret@127.0.0.1:1/d", options).await.unwrap_err();

    assert!(matches!(away, StorageError::Unavailable { .. }), "{away:?}");
    assert!(!text_of(&away).contains("secret"));
    assert!(begun.elapsed() < Duration::from_secs(10));
}
