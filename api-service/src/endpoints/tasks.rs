//! `/tasks`: the one door that every kind of work can go through, and where it can be followed.

pub mod bulk;
pub mod create;
pub mod events;
pub mod filter;
pub mod list;
pub mod operate;
pub mod resource;
pub mod show;
pub mod timeline;
pub mod why;

use crate::app::Endpoint;
use actix_web::web::ServiceConfig;

pub fn configure(app: &mut ServiceConfig) {
    app.service(
        Endpoint::at("/tasks")
            .get(list::list)
            .post(create::create)
            .build(),
    )
    // Before the task of any id.
    .service(Endpoint::at("/tasks/cancel").post(bulk::cancel).build())
    .service(Endpoint::at("/tasks/retry").post(bulk::retry).build())
    .service(
        Endpoint::at("/tasks/{id}")
            .get(show::show)
            .patch(operate::reschedule)
            .build(),
    )
    .service(
        Endpoint::at("/tasks/{id}/events")
            .get(events::follow)
            .build(),
    )
    .service(
        Endpoint::at("/tasks/{id}/timeline")
            .get(timeline::show)
            .build(),
    )
    .service(Endpoint::at("/tasks/{id}/why").get(why::show).build())
    .service(
        Endpoint::at("/tasks/{id}/cancel")
            .post(operate::cancel)
            .build(),
    )
    .service(
        Endpoint::at("/tasks/{id}/retry")
            .post(operate::retry)
            .build(),
    )
    .service(
        Endpoint::at("/tasks/{id}/resolve")
            .post(operate::resolve)
            .build(),
    );
}
