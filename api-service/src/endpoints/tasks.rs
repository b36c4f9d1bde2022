//! `/tasks`: the one door that every kind of work can go through, and where it can be followed.

pub mod create;
pub mod list;
pub mod resource;
pub mod show;

use crate::app::Endpoint;
use actix_web::web::ServiceConfig;

pub fn configure(app: &mut ServiceConfig) {
    app.service(
        Endpoint::at("/tasks")
            .get(list::list)
            .post(create::create)
            .build(),
    )
    .service(Endpoint::at("/tasks/{id}").get(show::show).build());
}
