//! `GET /api/guests`: what is relayed, for scripts and for the page. docs/web.md tells each field.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};

use super::{
    App, Connection,
    guard::{Problem, no_guest, role},
};
use crate::webrtc::{Stage, news_json};

/// All guests that the request may see.
///
/// # Errors
///
/// Those of [`role`], if it may see none.
pub async fn guests(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
) -> Result<Json<Vec<Value>>, Problem> {
    let mut list = Vec::new();
    let mut refusal = None;
    for stage in &app.stages {
        match role(&app, &connection, &headers, stage.feed.name()) {
            Ok((role, _)) => list.push(describe(stage, role)),
            Err(problem) if problem.status() == StatusCode::FORBIDDEN => {}
            Err(problem) => refusal = Some(problem),
        }
    }
    match refusal {
        Some(problem) if list.is_empty() => Err(problem),
        _ => Ok(Json(list)),
    }
}

/// One of them.
///
/// # Errors
///
/// Those of [`role`], and 404.
pub async fn guest(
    State(app): State<Arc<App>>,
    Extension(connection): Extension<Connection>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, Problem> {
    let (role, _) = role(&app, &connection, &headers, &name)?;
    let stage = app.stage(&name).ok_or_else(|| no_guest(&app, &name))?;
    Ok(Json(describe(stage, role)))
}

fn describe(stage: &Stage, role: crate::access::Role) -> Value {
    let Stage { feed, desk, .. } = stage;
    let mut body = news_json(&feed.news().borrow());
    if let Some(body) = body.as_object_mut() {
        body.remove("type");
    }
    let path = format!("/{}", feed.name());
    body["whep"] = format!("{path}/whep").into();
    body["stream"] = format!("{path}/stream.ts").into();
    body["path"] = path.into();
    body["name"] = feed.name().into();
    body["viewers"] = feed.viewers().into();
    body["controlled"] = desk.watch().borrow().is_some().into();
    body["input_refused"] = desk.refused().into();
    body["shared_control"] = desk.is_shared().into();
    body["role"] = role.to_string().into();
    body["figures"] = json!(*feed.figures().borrow());
    body
}
