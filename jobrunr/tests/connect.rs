//! `connect`: what each connection string gives, and that no error shows any of it.

use std::error::Error;

use jobrunr::{ConnectError, connect};

/// The error and everything behind it, as people and as programmers see it.
async fn everything_said_about(url: &str) -> (ConnectError, String) {
    let error = connect(url).await.expect_err("this must not connect");
    let mut said = String::new();
    let mut cause: Option<&dyn Error> = Some(&error);
    while let Some(error) = cause {
        said.push_str(&format!("{error} {error:?}\n"));
        cause = error.source();
    }
    (error, said)
}

#[tokio::test]
async fn memory_is_ready_for_use() {
    let storage = connect("memory:").await.unwrap();

    assert_eq!(storage.name(), "memory");
    assert_eq!(storage.job_counts().await.unwrap().total(), 0);
}

#[tokio::test]
async fn a_database_whose_feature_is_off_is_named_with_its_feature() {
    // With every feature on there is none.
    let databases: &[(&str, &str, &str)] = &[
        #[cfg(not(feature = "postgres"))]
        ("postgres://app:hunter2@db.internal/app", "PostgreSQL", "`postgres`"),
        #[cfg(not(feature = "postgres"))]
        ("postgresql://app:hunter2@db.internal/app", "PostgreSQL", "`postgres`"),
        #[cfg(not(feature = "mysql"))]
        ("mysql://app:hunter2@db.internal/app", "MySQL", "`mysql`"),
        #[cfg(not(feature = "mysql"))]
        ("mariadb://app:hunter2@db.internal/app", "MariaDB", "`mysql`"),
        #[cfg(not(feature = "mongo"))]
        ("mongodb://app:hunter2@db.internal/app", "MongoDB", "`mongo`"),
        #[cfg(not(feature = "mongo"))]
        ("mongodb+srv://app:hunter2@db.internal/app", "MongoDB", "`mongo`"),
        #[cfg(not(feature = "redis"))]
        ("redis://:hunter2@db.internal", "Redis", "`redis`"),
        #[cfg(not(feature = "redis"))]
        ("REDISS://:hunter2@db.internal", "Redis", "`redis`"),
    ];
    for (url, database, feature) in databases {
        let (error, said) = everything_said_about(url).await;

        assert!(matches!(error, ConnectError::NoSupport { .. }), "{said}");
        assert!(said.contains(*database) && said.contains(*feature), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("db.internal"), "{said}");
    }
}

#[tokio::test]
async fn what_names_no_database_is_answered_with_what_does() {
    for url in
        ["", "hunter2", "app:hunter2@db.internal", "postgress://app:hunter2@db.internal", "C:\\jobs.db"]
    {
        let (error, said) = everything_said_about(url).await;

        assert!(matches!(error, ConnectError::UnknownScheme), "{said}");
        assert!(said.contains("`sqlite:jobs.db`"), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("db.internal"), "{said}");
    }
}

#[cfg(feature = "postgres")]
mod postgres {
    use jobrunr::storage::StorageError;

    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_without_the_connection_string() {
        for url in ["postgres://app:hunter2@127.0.0.1:1/app", "POSTGRESQL://app:hunter2@127.0.0.1:1/app"] {
            let (error, said) = everything_said_about(url).await;

            assert!(matches!(error, ConnectError::Storage(StorageError::Unavailable { .. })), "{said}");
            assert!(!said.contains("hunter2") && !said.contains("app:"), "{said}");
        }
    }

    #[tokio::test]
    async fn a_url_that_cannot_be_read_is_refused_without_being_shown() {
        let (error, said) = everything_said_about("postgres://app:hunter2@db.internal:port/app").await;

        assert!(matches!(error, ConnectError::Storage(StorageError::Unsupported { .. })), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("db.internal"), "{said}");
    }
}

#[cfg(feature = "mysql")]
mod mysql {
    use jobrunr::storage::StorageError;

    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_without_the_connection_string() {
        for url in ["mysql://app:hunter2@127.0.0.1:1/app", "MARIADB://app:hunter2@127.0.0.1:1/app"] {
            let (error, said) = everything_said_about(url).await;

            assert!(matches!(error, ConnectError::Storage(StorageError::Unavailable { .. })), "{said}");
            assert!(!said.contains("hunter2") && !said.contains("app:"), "{said}");
        }
    }

    #[tokio::test]
    async fn a_url_that_cannot_be_read_is_refused_without_being_shown() {
        let (error, said) = everything_said_about("mysql://app:hunter2@db.internal:port/app").await;

        assert!(matches!(error, ConnectError::Storage(StorageError::Unsupported { .. })), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("db.internal"), "{said}");
    }
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use jobrunr::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_database_in_memory_has_its_tables() {
        let storage = connect("sqlite::memory:").await.unwrap();

        assert_eq!(storage.name(), "sqlite");
        assert_eq!(storage.job_counts().await.unwrap().total(), 0);
    }

    #[tokio::test]
    async fn a_file_keeps_its_jobs() {
        #[derive(Serialize, Deserialize)]
        struct Cleanup {}
        impl JobRequest for Cleanup {
            const JOB_TYPE: &'static str = "cleanup";
        }
        let folder = std::env::temp_dir().join(format!("jobrunr-connect-{}", JobId::new()));
        std::fs::create_dir(&folder).unwrap();
        let url = format!("sqlite:{}", folder.join("jobs.db").display());

        let first = connect(&url).await.unwrap();
        let id = JobScheduler::new(Arc::clone(&first)).enqueue(Cleanup {}).await.unwrap();
        first.close().await;
        let second = connect(&url).await.unwrap();
        let found = second.find_job(id).await.unwrap();
        second.close().await;
        std::fs::remove_dir_all(&folder).unwrap();

        assert_eq!(found.unwrap().signature(), "cleanup");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_an_error_of_the_storage() {
        let (error, said) = everything_said_about("sqlite:/no/such/folder/hunter2.db?password=hunter2").await;

        assert!(matches!(error, ConnectError::Storage(_)), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[cfg(not(feature = "sqlite"))]
#[tokio::test]
async fn sqlite_is_named_with_its_feature() {
    let (error, said) = everything_said_about("sqlite:hunter2.db").await;

    assert!(matches!(error, ConnectError::NoSupport { .. }), "{said}");
    assert!(said.contains("SQLite") && said.contains("`sqlite`") && !said.contains("hunter2"), "{said}");
}
