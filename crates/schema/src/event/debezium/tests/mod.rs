mod mysql;
mod postgres;
mod properties;
mod recording;
