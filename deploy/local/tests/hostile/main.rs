//! Hostile input, strange clusters and an operator's ordinary days: workers as processes on the real components, looked
//! at from outside. A file for each promise.

mod fault_proxy;
mod interactions;
mod operator;
mod point_01_identity;
mod point_02_time;
mod point_03_keys;
mod point_04_acknowledgement;
mod point_05_collapse;
mod point_06_bounded_work;
mod point_07_sizes;
mod point_08_waiting;
mod point_08_writer;
mod point_09_forms_of_records;
mod point_09_world_or_record;
mod point_10_deployments;
mod point_10_side_by_side;
mod point_11_messages;
mod point_12_door;
mod rig;
